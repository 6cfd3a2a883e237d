# Sourced by the other scripts: makes .venv once and installs gmi with the extra named in $1 (none: the core).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra="${1:-}"
stamp=".venv/.installed${extra:+-$extra}"
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ] || [ constraints.txt -nt "$stamp" ]; then
    .venv/bin/python -m pip install --quiet --constraint constraints.txt --editable ".${extra:+[$extra]}"
    touch "$stamp"
fi
