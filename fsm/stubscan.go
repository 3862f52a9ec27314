package fsm

import "google.golang.org/protobuf/encoding/protowire"

// filedMSOf reads the filing clock from a record's bytes without reading the
// rest. It is the last field, and the bytes are our own.
func filedMSOf(record []byte) uint64 {
	const filedMSField = 19
	for len(record) > 0 {
		field, kind, n := protowire.ConsumeTag(record)
		if n < 0 {
			return 0
		}
		record = record[n:]
		if field == filedMSField && kind == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(record) // 0 where it is cut
			return v
		}
		n = protowire.ConsumeFieldValue(field, kind, record)
		if n < 0 {
			return 0
		}
		record = record[n:]
	}
	return 0
}
