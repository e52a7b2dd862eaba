package port

import (
	"context"
	"log/slog"
	"strings"

	"google.golang.org/grpc/grpclog"
)

// LogGRPC sends what gRPC and the JSON gateway have to say for themselves to log, at the level debug: most of it is about clients that
// went away or sent what cannot be read, and whoever can connect can cause any number of such lines. It is for the whole process and to
// be called before anything else.
func LogGRPC(log *slog.Logger) {
	w := grpcWords{log}
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(w, w, w))
}

// grpcWords is an io.Writer of lines.
type grpcWords struct{ log *slog.Logger }

// Write implements io.Writer.
func (w grpcWords) Write(line []byte) (int, error) {
	if w.log.Enabled(context.Background(), slog.LevelDebug) {
		w.log.Debug("gRPC", "said", strings.TrimSpace(string(line)))
	}
	return len(line), nil
}
