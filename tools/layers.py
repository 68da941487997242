"""An import-linter contract: a package imports its listed packages and nothing else."""

import sys
from typing import Any

import grimp
from importlinter import Contract, ContractCheck, fields, output


class AllowedImports(Contract):
    """Direct imports outside `modules` are of the standard library or in `allowed`.

    modules: the packages under check; one that does not exist passes.
    allowed: names of packages, ours or third parties'; each covers what is below it.
    """

    type_name = "allowed"

    modules: Any = fields.ListField(subfield=fields.StringField())
    allowed: Any = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        covered = [*self.modules, *(self.allowed or []), *sys.stdlib_module_names]
        refused = [
            (importer, imported)
            for importer in sorted(graph.modules)
            if any(is_within(importer, package) for package in self.modules)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if not any(is_within(imported, package) for package in covered)
        ]
        return ContractCheck(kept=not refused, metadata={"refused": refused})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["refused"]:
            output.print_error(f"{importer} may not import {imported}")


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")
