"""The emulator's tables, walked while other threads change them.

ministack walks `list(table.items())`, which makes a tuple for each entry: a collection of garbage in between lets another thread in,
and a table that changes then is an error, in the middle of starting or ending a task too. A copy of a dict is made in one go.
"""
from ministack.core import responses


def _walks(table):
    """The methods of a table that walk it, over a copy."""
    def mine(self):
        return [(key, value) for key, value in self._data.copy().items() if self._is_mine(key)]
    table.__len__ = lambda self: len(mine(self))
    table.__bool__ = lambda self: bool(mine(self))
    table.__iter__ = lambda self: iter([self._unscope(key) for key, _ in mine(self)])
    table.keys = lambda self: [self._unscope(key) for key, _ in mine(self)]
    table.values = lambda self: [value for _, value in mine(self)]
    table.items = lambda self: [(self._unscope(key), value) for key, value in mine(self)]


def install():
    for table in (responses.AccountScopedDict, responses.AccountRegionScopedDict):
        _walks(table)
    regional = responses.AccountRegionScopedDict

    def scoped(self, account, region):
        return [(key, value) for key, value in self._data.copy().items() if key[:2] == (account, region)]
    regional.values_scoped = lambda self, account, region: [value for _, value in scoped(self, account, region)]
    regional.items_scoped = lambda self, account, region: [(key[2], value) for key, value in scoped(self, account, region)]
    regional.all_values = lambda self: list(self._data.copy().values())
    regional.all_items = lambda self: list(self._data.copy().items())
