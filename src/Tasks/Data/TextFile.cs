// Lines of a UTF-8 file, cut at '\n' only. Deliberately not File.ReadLines: that also cuts at a stray '\r', and replaces bad bytes silently.
using System.Text;

namespace IptNative.Tasks.Data;

internal static class TextFile
{
    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>Reads the lines; what follows the last '\n' is a line unless it is empty.</summary>
    /// <exception cref="InvalidDataException">The file is empty, no UTF-8, starts with a byte order mark, has Windows line ends or an empty line.</exception>
    public static List<string> ReadLines(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        if (bytes.AsSpan().StartsWith(Encoding.UTF8.Preamble))
            throw new InvalidDataException($"{path}: starts with a byte order mark; expected plain UTF-8. Save it as UTF-8 without BOM.");
        var lines = new List<string>();
        int start = 0;
        bool windows = true;
        while (start < bytes.Length)
        {
            int length = bytes.AsSpan(start).IndexOf((byte)'\n');
            if (length < 0) length = bytes.Length - start;
            string line = Decode(path, bytes.AsSpan(start, length), lines.Count + 1);
            if (line.Length == 0) throw new InvalidDataException($"{path}, line {lines.Count + 1}: the line is empty; expected an example per line. Delete it.");
            windows &= line[^1] == '\r';
            lines.Add(line);
            start += length + 1;
        }
        if (lines.Count == 0) throw new InvalidDataException($"{path}: holds 0 examples; expected at least 1 line. Give a file with examples.");
        // One line with a stray '\r' is data; every line with one is an editor's doing and would put '\r' into each answer.
        if (windows) throw new InvalidDataException($"{path}: every line ends in \\r\\n (Windows line ends); expected \\n. Convert it, for example with dos2unix.");
        return lines;
    }

    private static string Decode(string path, ReadOnlySpan<byte> line, int number)
    {
        try
        {
            return Strict.GetString(line);
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException($"{path}, line {number}: byte 0x{e.BytesUnknown?[0]:X2} at column {e.Index} is not UTF-8. Convert the file to UTF-8.", e);
        }
    }
}
