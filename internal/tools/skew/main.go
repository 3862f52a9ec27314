// Command skew builds a program whose clock can be set wrong, for tests:
//
//	go run ./internal/tools/skew -o bin/quorate-skewed ./cmd/quorate
//	bin/quorate-skewed chaos --faults clock
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/quorate/quorate/internal/skew"
)

func main() {
	output := flag.String("o", "bin/quorate-skewed", "the program to write")
	flag.Parse()
	pkg := "./cmd/quorate"
	if flag.NArg() > 0 {
		pkg = flag.Arg(0)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := skew.Build(ctx, ".", *output, pkg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
