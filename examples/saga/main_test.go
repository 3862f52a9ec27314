package main

import (
	"testing"

	"github.com/quorate/quorate/internal/playground"
)

func TestExample(t *testing.T) {
	playground.Test(t, sell, "ann: bought", "bob: ", "rolled back: REFUSED", "cyd: bought", "lamps left: 6 of 10, money left: 80 of 160")
}
