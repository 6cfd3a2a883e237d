"""Audits a model of tables: what it gives away of one attribute of its people, compared with what anybody can guess.

python pipelines/attributes.py configs/attributes_fair.yaml
"""

from collections.abc import Sequence

from gmi import cli
from gmi.errors import GmiError


def main(arguments: Sequence[str]) -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise GmiError("Tables need scikit-learn: pip install -e '.[tabular]'.") from error
    from gmi.attributes.audit import ATTRIBUTES

    cli.main(ATTRIBUTES, __doc__ or "", arguments)


if __name__ == "__main__":
    cli.run(main)
