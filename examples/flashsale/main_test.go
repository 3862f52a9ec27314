package main

import (
	"testing"

	"github.com/quorate/quorate/internal/playground"
)

func TestExample(t *testing.T) {
	playground.Test(t, sale, "60 customers", " bought, ", " were too late, 0 know nothing", "of 20 lamps, Redis has ")
}
