package main

import (
	"testing"

	"github.com/quorate/quorate/internal/playground"
)

func TestExample(t *testing.T) {
	playground.Test(t, reprice,
		"a change that commits (<nil>): customers saw 10, Postgres holds 11, customers see 11",
		"a change that does not (nobody would buy that): customers saw 11, Postgres holds 11, customers see 11",
		"a sender that dies after its commit (<nil>): customers saw 11, Postgres holds 12, customers see 12")
}
