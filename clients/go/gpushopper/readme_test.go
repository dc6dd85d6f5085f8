package gpushopper_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gpushopper.dev/go/internal/world"
)

// The README's programs do what they say, as they stand there.
func TestTheProgramsDoWhatTheySay(t *testing.T) {
	t.Parallel()
	w := world.Start(t)
	module := filepath.Join(world.Folder(), "go")
	readme, err := os.ReadFile(filepath.Join(module, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	programs := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(programs) != 3 {
		t.Fatalf("%d programs", len(programs))
	}
	folder := t.TempDir()
	rent := &shown{T: t, url: w.URL, folder: folder, path: build(t, module, programs[0][1])}
	watch := &shown{T: t, url: w.URL, folder: folder, path: build(t, module, programs[1][1])}
	follow := &shown{T: t, url: w.URL, folder: folder, path: build(t, module, programs[2][1])}
	follow.until(`0 open sessions, \$0.*`)

	said := rent.said()
	ssh := regexp.MustCompile(`^ssh -p \d+ \S+@127\.0\.0\.1 -i (\S+)\.pem\nit has cost 0\.\d+ dollars\n$`).FindStringSubmatch(said)
	if ssh == nil {
		t.Fatal(said)
	}
	if key, err := os.ReadFile(filepath.Join(folder, ssh[1]+".pem")); err != nil || !strings.Contains(string(key), "PRIVATE KEY") {
		t.Error(err)
	}

	// It goes on with what happened since, to the last.
	for _, line := range follow.until(ssh[1] + ` STATE_STOPPED: .*`) {
		if !strings.HasPrefix(line, ssh[1]+" STATE_") {
			t.Error(line)
		}
	}

	whole := `(?s)^STATE_PENDING: .*\n0\.\d+ dollars per hour, which is \$0\.\d+/h\n.*\nSTATE_STOPPED: .*\nit has cost 0\.\d+ dollars\n$`
	if said := watch.said(); !regexp.MustCompile(whole).MatchString(said) {
		t.Error(said)
	}
}

// build makes a program of a text, inside the module, so that it finds the package.
func build(t *testing.T, module string, text []byte) string {
	t.Helper()
	source, err := os.MkdirTemp(module, "readme-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(source)
	if err := os.WriteFile(filepath.Join(source, "main.go"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "program")
	command := exec.Command("go", "build", "-o", program, ".")
	command.Dir = source
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// shown is a program of the README.
type shown struct {
	*testing.T
	url, folder, path string
}

func (s *shown) command() *exec.Cmd {
	command := exec.Command(s.path)
	command.Dir = s.folder
	command.Env = append(os.Environ(), "GPU_SHOPPER_URL="+s.url)
	command.Stderr = os.Stderr
	return command
}

// said is what it prints until it ends.
func (s *shown) said() string {
	s.Helper()
	said, err := s.command().Output()
	if err != nil {
		s.Fatalf("%v\n%s", err, said)
	}
	return string(said)
}

// until is what it prints up to a line; it is ended once it has kept its token.
func (s *shown) until(last string) (lines []string) {
	s.Helper()
	command := s.command()
	output, err := command.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := command.Start(); err != nil {
		s.Fatal(err)
	}
	end, reader := regexp.MustCompile("^"+last+"$"), bufio.NewScanner(output)
	for reader.Scan() {
		lines = append(lines, strings.TrimSpace(reader.Text()))
		if end.MatchString(lines[len(lines)-1]) {
			break
		}
	}
	for kept := []byte{}; len(kept) == 0; time.Sleep(20 * time.Millisecond) {
		kept, _ = os.ReadFile(filepath.Join(s.folder, "watch.token"))
	}
	_ = command.Process.Kill()
	_ = command.Wait()
	return lines
}
