package gpushopper_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gpushopper.dev/go/internal/world"
)

// The README's program does the whole job, as it stands there.
func TestTheFirstProgramDoesTheWholeJob(t *testing.T) {
	t.Parallel()
	w := world.Start(t)
	module := filepath.Join(world.Folder(), "go")
	readme, err := os.ReadFile(filepath.Join(module, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```go\n")
	program, _, _ := strings.Cut(rest, "```")
	// Inside the module, so that it finds the package.
	folder, err := os.MkdirTemp(module, "readme-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.Command("go", "run", ".")
	run.Dir = folder
	run.Env = append(os.Environ(), "GPU_SHOPPER_URL="+w.URL)
	said, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	ssh := regexp.MustCompile(`^ssh -p \d+ \S+@127\.0\.0\.1 -i (\S+\.pem)\nit has cost 0\.\d+ dollars\n$`).FindSubmatch(said)
	if ssh == nil {
		t.Fatal(string(said))
	}
	if key, err := os.ReadFile(filepath.Join(folder, string(ssh[1]))); err != nil || !strings.Contains(string(key), "PRIVATE KEY") {
		t.Error(err)
	}
}
