// Where a command's texts come from: --input, --input-file or a pipe. Not: what is done with them.
using System.CommandLine;
using System.Text;
using System.Text.Json;

namespace IptNative.Cli.Terminal;

/// <summary>The options that name input texts, shared by commands that take some.</summary>
/// <param name="fields">JSON fields that may hold an input's text, the first that is there counts.</param>
internal sealed class Inputs(params string[] fields)
{
    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    public Option<string[]> Input { get; } = new("--input", "-i")
    {
        Description = "Text; may be given several times.",
        Arity = ArgumentArity.OneOrMore,
    };

    public Option<FileInfo?> InputFile { get; } = new("--input-file") { Description = "File with one text a line (UTF-8, '\\n'); '-' is standard input." };

    public Option<bool> Jsonl { get; } = new("--jsonl") { Description = $"Each input line is a JSON object with the text in its field {Quoted(fields)}." };

    /// <summary>Adds the options to a command.</summary>
    /// <param name="command">The command.</param>
    public void AddTo(Command command)
    {
        command.Options.Add(Input);
        command.Options.Add(InputFile);
        command.Options.Add(Jsonl);
    }

    /// <summary>Reads the texts lazily, one line at a time.</summary>
    /// <param name="parsed">The command line.</param>
    /// <returns>Texts in the order given: --input first, then the file's or the pipe's lines.</returns>
    /// <exception cref="UsageException">No input was named and none is piped in.</exception>
    /// <exception cref="InvalidDataException">A line is no UTF-8, or no JSON object with a text.</exception>
    public IEnumerable<string> Read(ParseResult parsed)
    {
        string[] given = parsed.GetValue(Input) ?? [];
        FileInfo? file = parsed.GetValue(InputFile);
        if (given.Length == 0 && file is null && !Console.IsInputRedirected)
            throw new UsageException("no input: found neither --input nor --input-file nor a pipe. Give --input \"some text\".");
        return Lines(given, file, parsed.GetValue(Jsonl));
    }

    private IEnumerable<string> Lines(string[] given, FileInfo? file, bool jsonl)
    {
        foreach (string text in given)
            yield return text;
        if (file is null && given.Length > 0)
            yield break;

        bool piped = file is null || file.ToString() == "-";
        string name = piped ? "standard input" : file!.FullName;
        using Stream stream = piped ? Console.OpenStandardInput() : Open(file!);
        using var reader = new StreamReader(stream, StrictUtf8);
        long number = 0;
        foreach (string line in NewlineLines(reader, name))
        {
            number++;
            yield return jsonl ? Text(line, name, number) : line;
        }
        if (number == 0 && given.Length == 0)
            throw new UsageException($"no input: {name} is empty. Give --input \"some text\", or one text a line.");
    }

    private static FileStream Open(FileInfo file)
    {
        if (file.Exists)
            return file.OpenRead();
        throw new FileNotFoundException($"{file}: reading input; {(Directory.Exists(file.FullName) ? "found a folder, expected a file" : "there is no such file")}. Give a file with one text a line, or '-' for standard input.");
    }

    // Lines end at '\n' only: a text may hold '\r' or U+2028, which StreamReader.ReadLine would cut at.
    private static IEnumerable<string> NewlineLines(StreamReader reader, string name)
    {
        var line = new StringBuilder();
        char[] buffer = new char[8192];
        int read;
        while ((read = Fill(reader, buffer, name)) > 0)
        {
            int start = 0;
            for (int end; (end = Array.IndexOf(buffer, '\n', start, read - start)) >= 0; start = end + 1)
            {
                line.Append(buffer, start, end - start);
                yield return line.ToString();
                line.Clear();
            }
            line.Append(buffer, start, read - start);
        }
        if (line.Length > 0)
            yield return line.ToString();
    }

    private static int Fill(StreamReader reader, char[] buffer, string name)
    {
        try
        {
            return reader.Read(buffer);
        }
        catch (DecoderFallbackException e)
        {
            throw new InvalidDataException($"{name}: reading input; found bytes that are no UTF-8 ({e.Message}). Convert the file to UTF-8.", e);
        }
    }

    private string Text(string line, string name, long number)
    {
        try
        {
            using var json = JsonDocument.Parse(line);
            if (json.RootElement.ValueKind == JsonValueKind.Object)
            {
                foreach (string field in fields)
                {
                    if (json.RootElement.TryGetProperty(field, out JsonElement text) && text.ValueKind == JsonValueKind.String)
                        return Unescape(text);
                }
            }
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{name}: line {number} is no JSON ({e.Message}). {Example}", e);
        }
        throw new InvalidDataException($"{name}: line {number} has no string field {Quoted(fields)}. {Example}");
    }

    private string Example => $"With --jsonl each line is an object such as {{\"{fields[0]}\": \"hello\"}}.";

    private static string Quoted(string[] fields) => string.Join(" or ", fields.Select(f => $"'{f}'"));

    // A lone surrogate escape (\ud800) is valid JSON but no text; the tokenizer takes it as U+FFFD, so do we.
    private static string Unescape(JsonElement text)
    {
        try
        {
            return text.GetString()!;
        }
        catch (InvalidOperationException)
        {
            return LoneSurrogates.Unescape(text.GetRawText());
        }
    }
}
