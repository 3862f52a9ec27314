package quoratev1

import _ "embed"

// OpenAPI is the description of the HTTP gateway in OpenAPI 2.0 (Swagger)
// JSON, as generated from the protos beside this file. It must not be modified.
//
//go:embed openapi.swagger.json
var OpenAPI []byte
