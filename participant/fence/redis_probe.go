package fence

import (
	"context"
	"fmt"
	"strings"
)

// safeRedis are the settings without which Redis loses what it acknowledged, and why.
var safeRedis = []struct{ name, want, why string }{
	{"appendonly", "yes", "writes would be lost with the process"},
	{"appendfsync", "always", "the last second's writes would be lost with the machine"},
	{"no-appendfsync-on-rewrite", "no", "writes during a rewrite would not be synced"},
	{"maxmemory-policy", "noeviction", "records would be evicted"},
}

// probe looks at the settings that "once" depends on.
func (r *Redis) probe(ctx context.Context) error {
	var unsafe []string
	for _, setting := range safeRedis {
		reply, err := r.do(ctx, "CONFIG", "GET", setting.name)
		if err != nil {
			if ctx.Err() != nil || !isRedisRefusal(err) {
				return fmt.Errorf("fence: ask redis for %s: %w", setting.name, err)
			}
			unsafe = append(unsafe, fmt.Sprintf("%s cannot be read (%v)", setting.name, err))
			continue
		}
		if got := pairOf(reply, setting.name); got != setting.want {
			unsafe = append(unsafe, fmt.Sprintf("%s is %q, want %q: %s", setting.name, got, setting.want, setting.why))
		}
	}
	reply, err := r.do(ctx, "INFO", "replication")
	if err != nil {
		return fmt.Errorf("fence: ask redis about its replicas: %w", err)
	}
	info := fmt.Sprint(reply)
	if !strings.Contains(info, "role:master") {
		unsafe = append(unsafe, "it is a replica")
	}
	if !strings.Contains(info, "connected_slaves:0") {
		unsafe = append(unsafe, "it has replicas: one that is promoted may lack the last writes")
	}
	if len(unsafe) > 0 {
		return fmt.Errorf("fence: redis: %w: %s; mend that, or allow it with RedisAllowUnsafe", ErrUnsafe, strings.Join(unsafe, "; "))
	}
	return nil
}

// isRedisRefusal tells an answer of the server's from a lost connection: services that
// manage Redis for others refuse CONFIG.
func isRedisRefusal(err error) bool {
	s := err.Error()
	return strings.HasPrefix(s, "ERR ") || strings.HasPrefix(s, "NOPERM ")
}

// pairOf reads the value of a name in a reply of CONFIG GET, a map or a list.
func pairOf(reply any, name string) string {
	switch pairs := reply.(type) {
	case map[any]any:
		return fmt.Sprint(pairs[name])
	case map[string]any:
		return fmt.Sprint(pairs[name])
	case []any:
		for i := 0; i+1 < len(pairs); i += 2 {
			if fmt.Sprint(pairs[i]) == name {
				return fmt.Sprint(pairs[i+1])
			}
		}
	}
	return ""
}
