package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"

	"holdfast/test/run"
)

// secretMark stands in every password of this test and in every token that nobody was given.
const secretMark = "S3CRETmark"

// secretNumber is a password whose quotes were forgotten.
const secretNumber = "7300042000037"

// TestSecretsStaySecret makes the calls that carry passwords and tokens, right, wrong and broken, over gRPC and as JSON, of a
// server that logs as much as it can, and ends it so that it shows all it is doing. Then no error that a client got, no line of the
// log and no file of the data holds a password, and no line of the log a token.
func TestSecretsStaySecret(t *testing.T) {
	server := serveWith(t, run.Config{Binary: binary(t), Dir: t.TempDir(), Args: []string{"--log-level=debug", "--bcrypt-cost=4"}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := grpc.NewClient(server.Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // fails only when closed already
	s := secrets{t: t, ctx: ctx, conn: conn, auth: pb.NewAuthClient(conn), url: "http://" + server.Client}
	s.setUp()
	s.overGRPC()
	s.asJSON()
	s.broken()
	s.auth.AuthDisable(metadata.AppendToOutgoingContext(ctx, "token", s.tokens[0]), &pb.AuthDisableRequest{})

	if err := syscall.Kill(server.Pid(), syscall.SIGQUIT); err != nil { // Go shows every goroutine, as in a panic
		t.Fatal(err)
	}
	<-server.Ended()
	log := server.LogTail(1 << 20)
	if !strings.Contains(log, "goroutine ") || !strings.Contains(log, `"level":"debug"`) {
		t.Errorf("the log does not show what it should hide: %d bytes", len(log))
	}
	s.absent("the log", []byte(log), append(s.tokens, secretMark, secretNumber)...)
	err = filepath.WalkDir(server.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		s.absent(path, content, secretMark)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d calls refused, %d tokens", s.refused, len(s.tokens))
	if s.refused < 20 || len(s.tokens) < 3 {
		t.Errorf("only %d calls were refused, and %d tokens given", s.refused, len(s.tokens))
	}
}

// secrets are the calls, and what must not be seen afterwards.
type secrets struct {
	t       *testing.T
	ctx     context.Context
	conn    *grpc.ClientConn
	auth    pb.AuthClient
	url     string
	tokens  []string // given
	refused int
}

func (s *secrets) absent(where string, content []byte, what ...string) {
	s.t.Helper()
	for _, secret := range what {
		if i := bytes.Index(content, []byte(secret)); i >= 0 {
			s.t.Errorf("%s holds a secret: %q", where, content[max(0, i-200):min(len(content), i+60)])
		}
	}
}

// answer takes note of what a client was told.
func (s *secrets) answer(err error) {
	s.t.Helper()
	if err != nil {
		s.refused++
		s.absent("an error", []byte(err.Error()), append(s.tokens, secretMark, secretNumber)...)
	}
}

func (s *secrets) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *secrets) setUp() {
	for _, name := range []string{"root", "alice"} {
		_, err := s.auth.UserAdd(s.ctx, &pb.AuthUserAddRequest{Name: name, Password: secretMark + name})
		s.must(err)
	}
	_, err := s.auth.UserGrantRole(s.ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	s.must(err)
	_, err = s.auth.AuthEnable(s.ctx, &pb.AuthEnableRequest{})
	s.must(err)
	for _, name := range []string{"root", "alice"} {
		r, err := s.auth.Authenticate(s.ctx, &pb.AuthenticateRequest{Name: name, Password: secretMark + name})
		s.must(err)
		s.tokens = append(s.tokens, r.Token)
	}
}

func (s *secrets) overGRPC() {
	long := strings.Repeat(secretMark, 20) // bcrypt refuses it
	for _, shown := range []string{"", s.tokens[0], s.tokens[1], secretMark, secretMark + "abcdef.1", s.tokens[1] + "9"} {
		ctx := s.ctx
		if shown != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, shown)
		}
		for _, pass := range []string{secretMark + "wrong", long} {
			_, err := s.auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "alice", Password: pass})
			s.answer(err)
			_, err = s.auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "nobody", Password: pass})
			s.answer(err)
			_, err = s.auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "bob", Password: pass})
			s.answer(err)
			_, err = s.auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "cert", Password: pass, Options: &authpb.UserAddOptions{NoPassword: true}})
			s.answer(err)
			_, err = s.auth.UserChangePassword(ctx, &pb.AuthUserChangePasswordRequest{Name: "nobody", Password: pass})
			s.answer(err)
			_, err = s.auth.UserChangePassword(ctx, &pb.AuthUserChangePasswordRequest{Name: "bob", Password: pass})
			s.answer(err)
		}
		_, err := pb.NewKVClient(s.conn).Put(ctx, &pb.PutRequest{Key: []byte("k")})
		s.answer(err)
		_, err = s.auth.UserList(ctx, &pb.AuthUserListRequest{})
		s.answer(err)
	}
}

// post sends a body to the gateway and gives back what it answered.
func (s *secrets) post(path, token, body string) []byte {
	s.t.Helper()
	q, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.url+path, strings.NewReader(body))
	s.must(err)
	q.Header.Set("Authorization", token)
	r, err := http.DefaultClient.Do(q)
	s.must(err)
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	s.must(err)
	if r.StatusCode != http.StatusOK {
		s.answer(fmt.Errorf("%s", answer))
	}
	return answer
}

func (s *secrets) asJSON() {
	q, err := json.Marshal(map[string]string{"name": "alice", "password": secretMark + "alice"})
	s.must(err)
	var given struct{ Token string }
	s.must(json.Unmarshal(s.post("/v3/auth/authenticate", "", string(q)), &given))
	if given.Token == "" {
		s.t.Error("no token came as JSON")
		return
	}
	s.tokens = append(s.tokens, given.Token)
	s.post("/v3/kv/put", "Bearer "+given.Token, `{"key":"aw=="}`)
	for _, shown := range []string{"Bearer " + s.tokens[0], "Bearer " + given.Token, secretMark, "Bearer " + secretMark} {
		for _, body := range []string{
			`{"name":"alice","password":"` + secretMark + `"}`, `{"name":"alice","password":"` + secretMark, `{"name":"alice","password":["` + secretMark + `"]}`,
			`{"name":"alice","password":` + secretNumber + `}`, `{"name":"alice","` + secretMark + `":"x"}`, `"` + secretMark + `"`, secretMark, `{"name":{"password":"` + secretMark + `"}}`,
		} {
			for _, path := range []string{"/v3/auth/authenticate", "/v3/auth/user/add", "/v3/auth/user/changepw"} {
				if path == "/v3/auth/user/changepw" && shown == "Bearer "+s.tokens[0] {
					continue // would take the tokens
				}
				s.post(path, shown, body)
			}
		}
	}
}

// bytesCodec sends bytes as they are.
type bytesCodec struct{ encoding.Codec }

// Name implements encoding.Codec.
func (bytesCodec) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (bytesCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

// Unmarshal implements encoding.Codec.
func (bytesCodec) Unmarshal([]byte, any) error { return nil }

// broken sends passwords in messages that are none.
func (s *secrets) broken() {
	for _, body := range []string{
		"\x12\x7f" + secretMark,              // shorter than it says
		"\x12\x0c" + secretMark + "\xff\xfe", // no UTF-8
		secretMark,
		"\x12\x0a" + secretMark + "\x12", // ends in a tag
	} {
		for _, method := range []string{"Authenticate", "UserAdd", "UserChangePassword"} {
			var none struct{}
			s.answer(s.conn.Invoke(s.ctx, "/etcdserverpb.Auth/"+method, []byte(body), &none, grpc.ForceCodec(bytesCodec{})))
		}
	}
}
