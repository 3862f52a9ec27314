package dtm

import (
	"crypto/rand"
	"math/big"
)

// shortAlphabet has no letters or digits that people take for one another, and
// therefore cannot spell either of the words that clients look for.
const shortAlphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// newGid is 128 random bits in 22 characters, the form of DTM's own gids.
func newGid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	n, base, digit := new(big.Int).SetBytes(b[:]), big.NewInt(int64(len(shortAlphabet))), new(big.Int)
	text := make([]byte, 22)
	for i := range text {
		n.DivMod(n, base, digit)
		text[i] = shortAlphabet[digit.Int64()]
	}
	return string(text)
}
