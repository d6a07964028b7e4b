# Sourced by the other scripts, after install.sh: what the tests of ordered certificates need.

# need_pebble: a certificate authority that speaks ACME with a DNS to go with it, a clock that can be moved, and what puts a root
# into chromium's store.
need_pebble() {
    need_debian pebble pebble
    need_debian pebble-challtestsrv pebble
    need_debian faketime faketime
    need_debian certutil libnss3-tools
}
