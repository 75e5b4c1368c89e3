// Package egress guards what this program connects to. Users say where providers, webhooks and mail servers are; none
// of that may lead into the machine's own network, unless it was meant to.
package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// Guard says whether an address may be dialled: nil, or why not. Its errors are ErrRefused.
type Guard func(netip.Addr) error

// ErrRefused is an address that must not be reached.
var ErrRefused = errors.New("address refused")

// never are the addresses that no provider can have a reason to live at: cloud metadata services and
// their like, which hand out credentials to whoever can reach them, and what is no single host.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),         // metadata of nearly every cloud, task and pod credentials
	netip.MustParsePrefix("168.63.129.16/32"),       // Azure's platform endpoint
	netip.MustParsePrefix("100.100.100.200/32"),     // Alibaba Cloud
	netip.MustParsePrefix("192.0.0.192/32"),         // Oracle Cloud
	netip.MustParsePrefix("224.0.0.0/3"),            // multicast, reserved, broadcast
	netip.MustParsePrefix("::/128"),                 // unspecified
	netip.MustParsePrefix("64:ff9b:1::/48"),         // local NAT64: where the IPv4 address stands in it is anyone's choice
	netip.MustParsePrefix("2001::/32"),              // Teredo
	netip.MustParsePrefix("fd00:ec2::/32"),          // Amazon
	netip.MustParsePrefix("fd20:ce::/32"),           // Google
	netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle Cloud
	netip.MustParsePrefix("fe80::a9fe:a9fe/128"),    // OpenStack
	netip.MustParsePrefix("ff00::/8"),               // multicast
}

// embeddings are the IPv6 prefixes whose addresses carry an IPv4 address, and the byte at which it stands.
var embeddings = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // SIIT
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
}

// PublicOnly lets only addresses of the public internet pass.
func PublicOnly() Guard {
	public := ssrf.New(ssrf.WithAnyPort())
	return func(addr netip.Addr) error {
		if err := AnywhereBut(addr); err != nil {
			return err
		}
		if err := public.SafeAddr(addr); err != nil {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return nil
	}
}

// AnywhereBut lets every address pass but those in never, also when it hides in an IPv6 address.
func AnywhereBut(addr netip.Addr) error {
	addr = addr.WithZone("").Unmap()
	for _, prefix := range never {
		if prefix.Contains(addr) {
			return fmt.Errorf("%w: %s lies in %s", ErrRefused, addr, prefix)
		}
	}
	if addr == netip.IPv6Loopback() {
		return nil // the one address of ::/96 that carries nothing
	}
	for _, e := range embeddings {
		if e.prefix.Contains(addr) {
			b := addr.As16()
			return AnywhereBut(netip.AddrFrom4([4]byte(b[e.at : e.at+4])))
		}
	}
	return nil
}

// Control asks the guard about the address that a net.Dialer is about to connect to. That is after the name was
// resolved, so that neither the spelling of a host nor a name server that changes its mind gets past it.
func (g Guard) Control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return g(to.Addr())
}
