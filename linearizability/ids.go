package linearizability

import (
	"encoding/json"
	"strings"
)

// IDs are ids of branches as one word, so that a branch can be compared; in a history
// they are a list. The zero value is none.
type IDs string

const idsApart = "\x00"

// IDsOf joins ids, in their order.
func IDsOf(ids []string) IDs { return IDs(strings.Join(ids, idsApart)) }

// List takes them apart.
func (i IDs) List() []string {
	if i == "" {
		return nil
	}
	return strings.Split(string(i), idsApart)
}

// MarshalJSON writes a list.
func (i IDs) MarshalJSON() ([]byte, error) { return json.Marshal(i.List()) }

// UnmarshalJSON reads one.
func (i *IDs) UnmarshalJSON(text []byte) error {
	var list []string
	err := json.Unmarshal(text, &list)
	*i = IDsOf(list)
	return err
}
