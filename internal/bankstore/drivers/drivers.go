// Package drivers opens the database drivers that the demo, the chaos suites and
// their tests need. Users of the SDK bring their own.
package drivers

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/detour"
)

var _ bankstore.Opener = Open

// Open makes a connector.
func Open(kind bankstore.Kind, dsn string) (driver.Connector, error) {
	switch kind {
	case bankstore.Postgres:
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		config.DialFunc = detour.Dial
		return stdlib.GetConnector(*config), nil
	case bankstore.MySQL:
		config, err := mysql.ParseDSN(dsn)
		if err != nil {
			return nil, err
		}
		config.DialFunc = detour.Dial
		config.MultiStatements = true // the proxy sends the evidence row and the prepare at once
		return mysql.NewConnector(config)
	case bankstore.SQLite:
		return sqliteConnector{dsn: dsn}, nil
	}
	return nil, fmt.Errorf("no driver for %q", kind)
}

// SQLiteDSN is the address of a database in a file, with the settings that a
// participant needs: a commit is on the disk, and readers do not wait for writers.
func SQLiteDSN(path string) string {
	return "file:" + path + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
}

// sqliteConnector opens the file anew for each connection.
type sqliteConnector struct{ dsn string }

func (c sqliteConnector) Connect(context.Context) (driver.Conn, error) {
	return (&sqlite.Driver{}).Open(c.dsn)
}

func (c sqliteConnector) Driver() driver.Driver { return &sqlite.Driver{} }
