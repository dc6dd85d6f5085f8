package dev.gpushopper.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.BufferedReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** What the README shows works as it stands there. */
class ReadmeTest {
    @Test
    @Timeout(900)
    void theProgramsDoWhatTheySay(@TempDir Path folder) throws Exception {
        Pattern shown = Pattern.compile("```java\n(.*?public class (\\w+) .*?)```", Pattern.DOTALL);
        List<String> names = new ArrayList<>();
        for (Matcher found = shown.matcher(Files.readString(Path.of("README.md"))); found.find(); ) {
            assertTrue(found.group(1).lines().count() <= 34, found.group(1));
            names.add(found.group(2) + ".java");
            Files.writeString(folder.resolve(found.group(2) + ".java"), found.group(1));
        }
        assertEquals(List.of("Rent.java", "OneSession.java", "AllSessions.java"), names);
        try (World world = new World()) {
            assertEquals(1, following(world, folder, "0 open sessions, \\$0.*").size());

            String said = said(world, folder, "Rent.java");
            Matcher rented = Pattern.compile("ssh -p \\d+ \\S+@127\\.0\\.0\\.1 -i (\\w+)\\.pem\nit has cost 0\\.\\d+ dollars\n").matcher(said);
            assertTrue(rented.matches(), said);
            String id = rented.group(1);
            assertTrue(Files.readString(folder.resolve(id + ".pem")).contains("PRIVATE KEY"));

            // It goes on with what happened since, to the last.
            List<String> lines = following(world, folder, id + " STATE_STOPPED: .*");
            assertTrue(lines.stream().allMatch(line -> line.startsWith(id + " STATE_")), lines.toString());

            String watched = said(world, folder, "OneSession.java");
            String whole = "STATE_PENDING: .*\n0\\.\\d+ dollars per hour, which is \\$0\\.\\d+/h\n.*\nSTATE_STOPPED: .*\nit has cost 0\\.\\d+ dollars\n";
            assertTrue(Pattern.compile(whole, Pattern.DOTALL).matcher(watched).matches(), watched);
        }
    }

    private static Process start(World world, Path folder, String program) throws Exception {
        ProcessBuilder java = new ProcessBuilder("java", "-cp", System.getProperty("java.class.path"), program);
        java.environment().put("GPU_SHOPPER_URL", world.at("url"));
        return java.directory(folder.toFile()).redirectError(ProcessBuilder.Redirect.INHERIT).start();
    }

    /** What a program prints until it ends. */
    private static String said(World world, Path folder, String program) throws Exception {
        Process ran = start(world, folder, program);
        String said = new String(ran.getInputStream().readAllBytes());
        assertEquals(0, ran.waitFor(), said);
        return said;
    }

    /** What the program that follows all sessions prints up to a line; it is ended once it has kept its token. */
    private static List<String> following(World world, Path folder, String last) throws Exception {
        Process program = start(world, folder, "AllSessions.java");
        List<String> lines = new ArrayList<>();
        BufferedReader reader = program.inputReader();
        for (String line = reader.readLine(); line != null; line = reader.readLine()) {
            lines.add(line);
            if (line.matches(last)) {
                break;
            }
        }
        Path kept = folder.resolve("watch.token");
        while (!Files.exists(kept) || Files.size(kept) == 0) {
            Thread.sleep(20);
        }
        program.destroyForcibly().waitFor();
        return lines;
    }
}
