# Sourced by the other scripts: installs a tool only where it is missing.

# need_debian COMMAND PACKAGE: a Debian package that brings COMMAND.
need_debian() {
    command -v "$1" >/dev/null 2>&1 && return 0
    echo "installing $2"
    if [ "$(id -u)" != 0 ]; then
        echo "error: $1 is missing" >&2
        echo "  next: install it (apt-get install $2), or run this script as root" >&2
        exit 1
    fi
    if [ -z "${MEZU_APT_UPDATED-}" ]; then
        apt-get update -qq
        MEZU_APT_UPDATED=1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null
}

need_nextest() {
    cargo nextest --version >/dev/null 2>&1 && return 0
    echo "installing cargo-nextest"
    cargo install --locked cargo-nextest
}

# playwright-core drives the chromium that Debian brings; it downloads no browser of its own.
need_playwright() {
    need_debian npm npm
    [ -d tests/browser/node_modules/playwright-core ] && return 0
    echo "installing playwright-core"
    (cd tests/browser && npm ci --silent --no-audit --no-fund)
}
