package freeport

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// bind keeps an address without listening there. The bind itself is one that
// shares with nobody: it fails where anyone listens or has bound. Afterwards the
// socket says that it shares (SO_REUSEADDR), as every listener does from the start
// (net.Listen and the databases' servers), and Linux lets such a one listen on a
// port whose other sockets share and do not listen: ip(7), tcp(7).
func bind(address string) (release func(), err error) {
	to, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	if to.IP == nil { // every address of the host
		to.IP = net.IPv4zero
	}
	family, where := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: to.Port, Addr: [16]byte(to.IP.To16())})
	if v4 := to.IP.To4(); v4 != nil {
		family, where = syscall.AF_INET, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(v4)}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	release = func() { _ = syscall.Close(fd) }
	err = errors.Join(
		os.NewSyscallError("bind", syscall.Bind(fd, where)),
		os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)),
	)
	if err != nil {
		release()
		return nil, err
	}
	if l, err := net.Listen("tcp", address); err == nil {
		return release, l.Close()
	}
	// A kernel that is not quite Linux (a sandbox) takes the socket's second word for
	// nothing: the list alone keeps the port.
	release()
	return func() {}, nil
}
