"""What the integration tests stand on: our wheels, built and installed for real.

The environment that runs pytest here has none of our packages, so a test cannot
import from the working tree by accident. It drives what a user would install:

    def test_something(installed: Installed) -> None:
        subprocess.run([installed.client.bin("jobby"), "--version"], check=True)

- `installed.library.python`: an interpreter that has jobby-core, and watchdog
- `installed.server.bin("jobby-server")`
- `installed.client.bin("jobby")`, and `installed.client.python` for jobby_client
- `installed.certs.bin("jobby")`: the client with its extra `certs`
- `lowest`, another fixture: the same with each declared dependency at its lower bound

`wheels` builds, `environments` installs, `cache` decides whether either is needed.
"""
