package main

import (
	"testing"

	"github.com/quorate/quorate/internal/playground"
)

func TestExample(t *testing.T) {
	playground.Test(t, publish, "20 orders in Postgres, 20 events in NATS")
}
