package participant

import "testing"

// "Epoch = (incarnation of the cluster, term), compared in order": after a restore
// or a forced recovery terms may begin lower than they were, and the word of the
// incarnation before is older all the same.
func TestEpochsAreComparedInOrder(t *testing.T) {
	ascending := []epoch{{0, 1}, {0, 9}, {1, 2}, {1, 3}, {2, 1}}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := a.less(b); got != (i < j) {
				t.Errorf("%v before %v: %v", a, b, got)
			}
		}
	}
}
