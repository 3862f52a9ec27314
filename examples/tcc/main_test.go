package main

import (
	"testing"

	"github.com/quorate/quorate/internal/playground"
)

func TestExample(t *testing.T) {
	playground.Test(t, transfer, "30 moved", "500 not moved", "too little", "ann has 70 and 0 held, bob has 30 and 0 held")
}
