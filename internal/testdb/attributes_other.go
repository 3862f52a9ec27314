//go:build unix && !linux

package testdb

import "syscall"

// attributes start a server in a process group of its own.
func attributes(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: cred, Setpgid: true}
}
