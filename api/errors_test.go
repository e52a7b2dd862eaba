package api

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/apply"
	"holdfast/mvcc"
	"holdfast/server"
)

// exportedErrors are the names of the exported error variables of a package, as "package.ErrName".
func exportedErrors(t *testing.T, name string) (names []string) {
	t.Helper()
	set := token.NewFileSet()
	files, err := filepath.Glob("../" + name + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if _, inside := n.(*ast.FuncDecl); inside {
				return false
			}
			if spec, ok := n.(*ast.ValueSpec); ok {
				for _, ident := range spec.Names {
					if strings.HasPrefix(ident.Name, "Err") {
						names = append(names, name+"."+ident.Name)
					}
				}
			}
			return true
		})
	}
	return names
}

// unserved are errors that no client meets: a member that has one does not serve.
var unserved = map[string]bool{"server.ErrInUse": true}

// TestEveryErrorHasARow reads the sources of the packages below for exported errors and asks that the table in errors.go
// has a row for each: a new error must not leave the member with the code Unknown because nobody thought of it.
func TestEveryErrorHasARow(t *testing.T) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if p, ok := s.X.(*ast.Ident); ok {
				rows[p.Name+"."+s.Sel.Name] = true
			}
		}
		return true
	})
	found := 0
	for _, name := range []string{"apply", "mvcc", "lease", "auth", "membership", "server"} {
		for _, e := range exportedErrors(t, name) {
			found++
			if !rows[e] && !unserved[e] {
				t.Errorf("%s has no row in errors.go: say what clients are told", e)
			}
		}
	}
	if found < 20 {
		t.Errorf("found %d errors only: the search looks in the wrong place", found)
	}
}

// TestToWire: an error keeps its words when it is wrapped, those of gRPC and of contexts go out as they are, any other has
// the code Unknown and its own words.
func TestToWire(t *testing.T) {
	for _, row := range wire {
		if got := toWire(fmt.Errorf("read key: %w", row.err)); got.Error() != row.on.Error() {
			t.Errorf("%v became %v", row.err, got)
		}
	}
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{mvcc.ErrCompacted, codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"},
		{apply.ErrNoSpace, codes.ResourceExhausted, "etcdserver: mvcc: database space exceeded"},
		{apply.ErrCorrupt, codes.DataLoss, "etcdserver: corrupt cluster"},
		{server.ErrTooManyRequests, codes.Unknown, "etcdserver: too many requests"},
		{server.ErrLeaderTransferTimeout, codes.Unknown, "etcdserver: request timed out, leader transfer took too long"},
		{server.ErrStopped, codes.Unavailable, "etcdserver: server stopped"},
		{rpctypes.ErrGRPCEmptyKey, codes.InvalidArgument, "etcdserver: key is not provided"},
		{errors.New("disk on fire"), codes.Unknown, "disk on fire"},
	} {
		s, ok := status.FromError(toWire(c.err))
		if !ok || s.Code() != c.code || s.Message() != c.text {
			t.Errorf("%v became %v", c.err, s)
		}
	}
	for _, err := range []error{nil, context.Canceled, context.DeadlineExceeded, fmt.Errorf("wait: %w", context.Canceled)} {
		if got := toWire(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
