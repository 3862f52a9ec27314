package main

import (
	"testing"

	"github.com/quorate/quorate/internal/playground"
)

func TestExample(t *testing.T) {
	playground.Test(t, book, "ann: ticket trip-of-ann", "bob stays at home: ", "no seat for bob",
		"cyd: ticket trip-of-cyd, by the second program", "bookings: ann hotel, ann flight, cyd hotel, cyd flight")
}
