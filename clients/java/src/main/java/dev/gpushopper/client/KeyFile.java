package dev.gpushopper.client;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Set;
import java.util.UUID;

/** The private key that a create answer brings, kept in a file that only its owner can read. */
public final class KeyFile {
    private KeyFile() {}

    /**
     * Writes a private key to a new file, mode 0600.
     *
     * @throws FileAlreadyExistsException when there is a file already: it may be the key of another machine
     * @throws IllegalArgumentException when there is no key: the session was created with one of its user's own
     */
    public static void save(Path path, String privateKey) throws IOException {
        if (privateKey.isEmpty()) {
            throw new IllegalArgumentException("there is no private key to save: the session was created with a key of its user's own");
        }
        Set<StandardOpenOption> fresh = Set.of(StandardOpenOption.WRITE, StandardOpenOption.CREATE_NEW);
        FileAttribute<?>[] ownerOnly = FileSystems.getDefault().supportedFileAttributeViews().contains("posix")
                ? new FileAttribute<?>[] {PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"))}
                : new FileAttribute<?>[0];
        try (FileChannel file = FileChannel.open(path, fresh, ownerOnly)) {
            try {
                ByteBuffer text = ByteBuffer.wrap(privateKey.getBytes(StandardCharsets.UTF_8));
                while (text.hasRemaining()) {
                    file.write(text);
                }
                file.force(true);
            } catch (IOException failed) {
                Files.deleteIfExists(path);
                throw failed;
            }
        }
    }

    /** Writes a private key in place of what may be there, mode 0600. An old file keeps its name until the new one is complete. */
    public static void replace(Path path, String privateKey) throws IOException {
        Path beside = path.resolveSibling(path.getFileName() + "." + UUID.randomUUID() + ".new");
        save(beside, privateKey);
        try {
            Files.move(beside, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(beside);
        }
    }
}
