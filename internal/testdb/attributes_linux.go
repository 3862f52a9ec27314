package testdb

import "syscall"

// attributes make a server die with its starter.
func attributes(cred *syscall.Credential) *syscall.SysProcAttr {
	// SIGQUIT: Postgres ends its children too; MariaDB ends at once.
	return &syscall.SysProcAttr{Credential: cred, Pdeathsig: syscall.SIGQUIT, Setpgid: true}
}
