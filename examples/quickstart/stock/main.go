// Command stock is the second of two services: it takes goods from MariaDB, in
// the transaction that its caller's request carries.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"log"
	"net/http"

	"github.com/go-sql-driver/mysql"
	"github.com/quorate/quorate/participant"
)

func main() {
	listen := flag.String("listen", "localhost:8082", "address to serve on")
	quorate := flag.String("quorate", "localhost:36790", "gRPC address of a node of the cluster")
	dsn := flag.String("mysql", "", "DSN of the MariaDB or MySQL database")
	flag.Parse()

	client, err := participant.Dial(context.Background(), []string{*quorate})
	if err != nil {
		log.Fatal(err)
	}
	config, err := mysql.ParseDSN(*dsn)
	if err != nil {
		log.Fatal(err)
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(participant.MySQL(connector, client, "stock-db"))
	for _, statement := range []string{
		"CREATE TABLE IF NOT EXISTS stock (item varchar(64) PRIMARY KEY, n int NOT NULL)",
		"INSERT IGNORE INTO stock VALUES ('lamp', 10)",
	} {
		if _, err := db.Exec(statement); err != nil {
			log.Fatal(err)
		}
	}
	// The middleware puts the caller's transaction into the request's context, and
	// tells the caller, in the answer's trailer, that all work below has voted.
	http.Handle("POST /take", participant.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := take(r.Context(), db, r.FormValue("item"), r.FormValue("n")); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})))
	log.Printf("stock: serving on %s", *listen)
	log.Fatal(http.ListenAndServe(*listen, nil))
}

// take is the branch in MariaDB. Its Rollback, when there are too few, is a
// refusal: the whole transaction rolls back.
func take(ctx context.Context, db *sql.DB, item, n string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	done, err := tx.ExecContext(ctx, "UPDATE stock SET n = n - ? WHERE item = ? AND n >= ?", n, item, n)
	if err != nil {
		return err
	}
	if rows, err := done.RowsAffected(); err != nil || rows == 0 {
		return fmt.Errorf("too few of %q in stock", item)
	}
	return tx.Commit()
}
