# Sourced by the other scripts, after install.sh: what the tests of bad networks make networks with.

# need_netlab: network namespaces and the tools that lose, hold up, translate and refuse packets in them. Needs root.
need_netlab() {
    need_debian ip iproute2
    need_debian nft nftables
    need_debian iptables iptables
    need_debian conntrack conntrack
    need_debian ethtool ethtool
    need_debian sysctl procps
    need_debian python3 python3
}
