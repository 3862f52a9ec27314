package api

import "crypto/tls"

// withProtocols returns config with its ALPN names, also where it makes one for
// each connection. gRPC speaks HTTP/2 only; the gateway serves older clients, too.
func withProtocols(config *tls.Config, protocols ...string) *tls.Config {
	if config == nil {
		return nil
	}
	config = config.Clone()
	config.NextProtos = protocols
	if each := config.GetConfigForClient; each != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			made, err := each(hello)
			if made == nil || err != nil {
				return made, err
			}
			made = made.Clone()
			made.NextProtos = protocols
			return made, nil
		}
	}
	return config
}
