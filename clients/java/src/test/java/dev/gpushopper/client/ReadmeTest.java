package dev.gpushopper.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What the README shows works as it stands there. */
class ReadmeTest {
    @Test
    @Timeout(600)
    void theProgramDoesTheWholeJob(@TempDir Path folder) throws Exception {
        Matcher found = Pattern.compile("```java\n(.*?)```", Pattern.DOTALL).matcher(Files.readString(Path.of("README.md")));
        assertTrue(found.find());
        String program = found.group(1);
        assertTrue(program.lines().count() <= 22, program);
        try (World world = new World()) {
            Files.writeString(folder.resolve("Rent.java"), program);
            ProcessBuilder java = new ProcessBuilder("java", "-cp", System.getProperty("java.class.path"), "Rent.java");
            java.environment().put("GPU_SHOPPER_URL", world.at("url"));
            Process ran = java.directory(folder.toFile()).redirectError(ProcessBuilder.Redirect.INHERIT).start();
            String said = new String(ran.getInputStream().readAllBytes());
            assertEquals(0, ran.waitFor(), said);
            Matcher lines = Pattern.compile("ssh -p \\d+ \\S+@127\\.0\\.0\\.1 -i (\\w+\\.pem)\nit has cost 0\\.\\d+ dollars\n").matcher(said);
            assertTrue(lines.matches(), said);
            assertTrue(Files.readString(folder.resolve(lines.group(1))).contains("PRIVATE KEY"));
        }
    }
}
