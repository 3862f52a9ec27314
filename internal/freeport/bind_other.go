//go:build !linux

package freeport

import "net"

// bind looks whether anybody listens: these kernels have no socket that keeps a port
// and lets another one listen there.
func bind(address string) (release func(), err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return func() {}, l.Close()
}
