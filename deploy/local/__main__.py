"""The local stack, for the command line, which imports no service: `python -m deploy.local up|check|token|...`.

All but `up` print JSON."""

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.local.home import Home


def main() -> int:
    arguments = parser().parse_args()
    from deploy.local.home import Home

    home = Home.of(os.environ)
    match arguments.command:
        case "up":
            return up(home, arguments)
        case "check":
            return check(arguments)
        case command:
            return keys(home, command, arguments)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    up_command = commands.add_parser("up", help="run the stack in the foreground")
    up_command.add_argument("--no-demo", action="store_true", help="do not make the demo tenant")
    up_command.add_argument("--json", action="store_true", help="print what runs as one JSON document")
    check_command = commands.add_parser("check", help="print what is wrong with the environment, as JSON")
    check_command.add_argument("--running", action="store_true", help="the stack runs, and has its ports")
    token_command = commands.add_parser("token", help="make a token for the gRPC ports or for metrics")
    token_command.add_argument("--role", choices=["operator", "integration"], default="integration")
    token_command.add_argument("--tenant", required=True, help="a tenant, or * for all")
    token_command.add_argument("--name", default="", help="what it is for")
    token_command.add_argument("--hours", type=float, default=24.0, help="how long it is good for")
    token_command.add_argument("--scope", choices=["service", "metrics"], default="service", help="what it opens")
    commands.add_parser("tokens", help="list the tokens that were made")
    commands.add_parser("revoke", help="end a token").add_argument("id")
    rotate_command = commands.add_parser("rotate", help="replace keys")
    rotate_command.add_argument("names", nargs="*", help="services, `operator` or `master`; all when none is named")
    rotate_command.add_argument("--now", action="store_true", help="what the old keys have signed ends at once")
    return top


def up(home: "Home", arguments: argparse.Namespace) -> int:
    from deploy.local.home import AlreadyRunning
    from deploy.local.ports import PortTaken
    from deploy.local.server import ServerFailed
    from deploy.local.sockets import UnsafeSocketDir
    from deploy.local.stack import run

    try:
        return run(home, demo=not arguments.no_demo, as_json=arguments.json)
    except (AlreadyRunning, PortTaken, ServerFailed, UnsafeSocketDir, OSError, ValueError) as failure:
        print(f"parley up: {failure}", file=sys.stderr)
        return 1


def check(arguments: argparse.Namespace) -> int:
    from deploy.local.variables import examine

    print(json.dumps([problem.as_dict() for problem in examine(os.environ, running=arguments.running)]))
    return 0


def keys(home: "Home", command: str, arguments: argparse.Namespace) -> int:
    from deploy.local import rotating, tokens
    from services.runtime.keys import KeyMissing

    try:
        match command:
            case "token":
                token, row = tokens.issue(
                    home,
                    issuer=arguments.role,
                    tenant_id=arguments.tenant,
                    name=arguments.name,
                    seconds=arguments.hours * 3600,
                    scope=arguments.scope,
                )
                answer: object = {"token": token} | row.as_dict()
            case "tokens":
                answer = [row.as_dict() for row in tokens.issued(home)]
            case "revoke":
                answer = tokens.revoke(home, arguments.id).as_dict()
            case _:
                answer = {"rotated": rotating.rotate(home, arguments.names, now=arguments.now)}
    except KeyMissing as failure:
        print(f"{failure}: has `make run` been started once?", file=sys.stderr)
        return 1
    except (ValueError, OSError) as failure:
        print(failure, file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
