package bench

import (
	"context"
	"encoding/base64"
	byteorder "encoding/binary"
	"math/rand/v2"

	"github.com/oklog/ulid/v2"
	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// PayloadBytes is what each branch of a transaction carries, fresh for each call.
const PayloadBytes = 256

// freshPayload is random text of PayloadBytes: labels must be text.
func freshPayload() []byte {
	const size = PayloadBytes / 4 * 3
	random := make([]byte, 0, size)
	for len(random) < size {
		random = byteorder.LittleEndian.AppendUint64(random, rand.Uint64())
	}
	text := make([]byte, PayloadBytes)
	base64.RawURLEncoding.Encode(text, random)
	return text
}

// freshGID is a new GID, born at the newest cluster clock that was heard.
func (t *target) freshGID() string {
	var id ulid.ULID
	_ = id.SetTime(t.clock.Load()) // fails from the year 10889 on
	high, low := rand.Uint64(), rand.Uint64()
	for i := range 10 {
		if i < 8 {
			id[6+i] = byte(low >> (8 * i))
		} else {
			id[6+i] = byte(high >> (8 * (i - 8)))
		}
	}
	return id.String()
}

// tune hears the clock: a list of one is the cheapest read whose answer is no stale node's.
func (t *target) tune(ctx context.Context) error {
	_, err := ask(ctx, t, 0, func(ctx context.Context, conn *grpc.ClientConn) (*quoratev1.ListResponse, error) {
		return quoratev1.NewTransactionServiceClient(conn).List(ctx, &quoratev1.ListRequest{PageSize: 1})
	})
	return err
}
