# Sourced by the other scripts: installs a tool only where it is missing.

# need_debian COMMAND PACKAGE: a Debian package that brings COMMAND.
need_debian() {
    command -v "$1" >/dev/null 2>&1 || need_debian_package "$2"
}

# need_debian_package PACKAGE: installs it.
need_debian_package() {
    echo "installing $1"
    if [ "$(id -u)" != 0 ]; then
        echo "error: the package $1 is missing" >&2
        echo "  next: install it (apt-get install $1), or run this script as root" >&2
        exit 1
    fi
    if [ -z "${MEZU_APT_UPDATED-}" ]; then
        apt-get update -qq
        MEZU_APT_UPDATED=1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}

need_nextest() {
    cargo nextest --version >/dev/null 2>&1 && return 0
    echo "installing cargo-nextest"
    cargo install --locked cargo-nextest
}

# playwright-core drives the chromium that Debian brings; it downloads no browser of its own. axe-core looks for what keeps
# people out of a page.
need_playwright() {
    need_debian npm npm
    [ -d tests/browser/node_modules/playwright-core ] && [ -d tests/browser/node_modules/axe-core ] && return 0
    echo "installing playwright-core and axe-core"
    (cd tests/browser && npm ci --silent --no-audit --no-fund)
}

# Clients and servers that share no code with the product (grpcio, aioquic, aiosmtpd, h2, h11, websockets), in a virtual environment beside the
# build: tests find it there.
need_python_clients() {
    need_python_environment python-clients tests/clients/requirements.txt
}

# What looks at the public TLS from outside: sslyze in an environment of its own, testssl.sh from Debian.
need_tls_scanners() {
    need_debian testssl testssl.sh
    need_debian openssl openssl
    need_debian certutil libnss3-tools
    need_python_environment python-scanners tests/clients/scanners.txt
}

# need_python_environment NAME REQUIREMENTS
need_python_environment() {
    need_debian python3 python3
    local venv="${CARGO_TARGET_DIR:-target}/$1"
    cmp -s "$2" "$venv/installed.txt" && return 0
    echo "installing ${1//-/ }"
    # Debian leaves the module that makes environments out of its python3.
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_debian_package python3-venv
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$2"
    cp "$2" "$venv/installed.txt"
}

need_h2load() {
    need_debian h2load nghttp2-client
}
