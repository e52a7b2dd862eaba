package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonPath is where the JSON gateway takes a method's calls; "" for one that it does not take, or that is a stream.
func jsonPath(path string) string {
	d := descriptorOf(path)
	if d == nil || d.IsStreamingClient() || d.IsStreamingServer() {
		return ""
	}
	rule, _ := proto.GetExtension(d.Options(), annotations.E_Http).(*annotations.HttpRule)
	return rule.GetPost()
}

// jsonForms are the forms in which a request may come.
var jsonForms = []protojson.MarshalOptions{
	{UseProtoNames: true},
	{UseProtoNames: false, UseEnumNumbers: true, EmitUnpopulated: true},
	{Multiline: true},
}

// jsonHeaders are the headers that become metadata on the other side of the gateway.
func jsonHeaders(md metadata.MD) http.Header {
	h := http.Header{}
	for name, values := range md {
		if name == "token" {
			name = "authorization"
		} else {
			name = runtime.MetadataHeaderPrefix + name
		}
		for _, v := range values {
			h.Add(name, v)
		}
	}
	return h
}

// zeroShown finds a number that should not be shown, since it is zero.
var zeroShown = regexp.MustCompile(`":\s?"?0"?\s?[,}]`)

// callJSON makes a call through the JSON gateway. served is false if it cannot be put in JSON.
func (t *target) callJSON(conn int, path string, md metadata.MD, request proto.Message) (a answer, served bool) {
	at := jsonPath(path)
	if at == "" {
		return answer{}, false
	}
	body, err := jsonForms[int(t.calls.Add(1))%len(jsonForms)].Marshal(request)
	if err != nil {
		return answer{}, false // a text that is no UTF-8
	}
	broken := func(format string, args ...any) (answer, bool) {
		return answer{code: codes.DataLoss, text: "peer: " + fmt.Sprintf(format, args...)}, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	url := t.base(conn) + at
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return broken("%v", err)
	}
	q.Header = jsonHeaders(md)
	r, err := t.web.Do(q)
	if err != nil {
		return broken("%v", err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return broken("%v", err)
	}
	if kind := r.Header.Get("Content-Type"); kind != "application/json" {
		return broken("an answer of the type %q: %.100q", kind, text)
	}
	if r.StatusCode != http.StatusOK {
		return t.failedJSON(path, r.StatusCode, text), true
	}
	m := methodOf(path).output.New().Interface()
	if err := protojson.Unmarshal(text, m); err != nil {
		return broken("the answer does not parse: %v", err)
	}
	if zeroShown.Match(text) {
		return broken("a number is shown that is 0: %s", text)
	}
	if t.tamper != nil {
		t.tamper(path, m, "")
	}
	if err := t.checkOrigin(conn, m); err != nil {
		return broken("%v", err)
	}
	return answer{messages: []proto.Message{m}}, true
}

// failedJSON makes the answer of a call that failed.
func (t *target) failedJSON(path string, status int, text []byte) answer {
	var failure struct {
		Code    codes.Code
		Message string
		Details []any
	}
	if err := json.Unmarshal(text, &failure); err != nil || runtime.HTTPStatusFromCode(failure.Code) != status {
		return answer{code: codes.DataLoss, text: fmt.Sprintf("peer: status %d with %.200q (%v)", status, text, err)}
	}
	a := answer{code: failure.Code, text: failure.Message}
	if t.tamper != nil {
		a.text = t.tamper(path, nil, a.text)
	}
	return a
}
