"""The local stack, for the command line, which imports no service: `python -m deploy.local up|check|token`."""

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
        case _:
            return token(home, arguments)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    up_command = commands.add_parser("up", help="run the stack in the foreground")
    up_command.add_argument("--no-demo", action="store_true", help="do not make the demo tenant")
    up_command.add_argument("--json", action="store_true", help="print what runs as one JSON document")
    check_command = commands.add_parser("check", help="print what is wrong with the environment, as JSON")
    check_command.add_argument("--running", action="store_true", help="the stack runs, and has its ports")
    token_command = commands.add_parser("token", help="print a token for the gRPC ports")
    token_command.add_argument("--role", choices=["operator", "integration"], default="integration")
    token_command.add_argument("--tenant", action="append", required=True, help="a tenant, or * for all")
    token_command.add_argument("--hours", type=float, default=24.0, help="how long it is good for")
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


def token(home: "Home", arguments: argparse.Namespace) -> int:
    from deploy.local.tokens import operator_token
    from services.runtime.keys import KeyMissing, Keys

    try:
        seconds = arguments.hours * 3600
        print(operator_token(Keys(home.keys), issuer=arguments.role, tenants=arguments.tenant, seconds=seconds))
    except KeyMissing as failure:
        print(f"{failure}: has `make run` been started once?", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
