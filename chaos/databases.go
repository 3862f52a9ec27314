package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/chaos/bank"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/testdb"
)

// openDatabases provides what --databases names, once for all workloads: a fault of
// a server hurts every one that keeps money there. The run ends them.
func (e *Env) openDatabases(ctx context.Context) (*bank.Servers, error) {
	if e.databases != nil {
		return e.databases, nil
	}
	dir := filepath.Join(e.Dir, "databases")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	opened, impossible, err := bank.OpenServers(ctx, dir, e.Options.Databases)
	if err != nil {
		return nil, err
	}
	for name, why := range impossible {
		e.Log.Warn("a database is not possible here", "database", name, "why", why)
	}
	if e.Links != nil {
		for name, address := range opened.Addresses() {
			if err := e.Links.Listens(name, map[string]string{portSQL: address}); err != nil {
				return nil, errors.Join(err, opened.Close())
			}
		}
	}
	e.databases = opened
	return opened, nil
}

// closeDatabases ends them.
func (e *Env) closeDatabases() error {
	if e.databases == nil {
		return nil
	}
	return e.databases.Close()
}

// portSQL is the port of a database in the network of links.
const portSQL = "sql"

// usesDatabases says whether one of the workloads does.
func usesDatabases(o Options) bool {
	return slices.Contains(o.Workloads, workloadBank) || slices.Contains(o.Workloads, workloadModes)
}

// needsServer is the Possible of faults that hurt a server of the run's own, whoever
// keeps money there.
func needsServer(env *Env) error {
	switch {
	case !usesDatabases(env.Options):
		return fmt.Errorf("it hurts the workloads %s and %s, neither of which is among --workloads", workloadBank, workloadModes)
	case env.databases != nil && len(env.databases.Private) > 0, env.databases == nil && bank.Offers(env.Options.Databases, true, servers...):
		return nil
	}
	return fmt.Errorf("no such database is among --databases %s", strings.Join(env.Options.Databases, ","))
}

// servers are the kinds that are servers.
var servers = []bankstore.Kind{bankstore.Postgres, bankstore.MySQL}

// pickServer claims a server of the run's own, by its resource; nil when none is free.
func pickServer(env *Env) (name string, server *testdb.Server) {
	names := sortedNames(env.databases.Private)
	for _, i := range env.NewRand().Perm(len(names)) {
		if env.claims.claim(names[i]) {
			return names[i], env.databases.Private[names[i]]
		}
	}
	return "", nil
}
