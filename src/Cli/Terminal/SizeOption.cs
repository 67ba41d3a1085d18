// Options that take an amount of memory, one wording for every command that has one.
using System.CommandLine;
using IptNative.Tuning.Memory;

namespace IptNative.Cli.Terminal;

/// <summary>An amount of memory: 6GiB, 700MB.</summary>
internal sealed class SizeOption : Option<string?>
{
    public SizeOption(string name, string description)
        : base(name) => Description = description;

    /// <summary>The amount asked for.</summary>
    /// <param name="parsed">The command line.</param>
    /// <returns>Bytes; null where none was given.</returns>
    /// <exception cref="UsageException">It is no amount.</exception>
    public long? Of(ParseResult parsed)
    {
        if (parsed.GetValue(this) is not { } text)
            return null;
        return ByteSize.TryParse(text, out long bytes) ? bytes : throw new UsageException($"{Name} is '{text}', expected {ByteSize.Expected}.");
    }
}
