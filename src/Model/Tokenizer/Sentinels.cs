// The names and order of T5's sentinels. Deliberately not: span corruption, which uses them.
using System.Globalization;

namespace IptNative.Model.Tokenizer;

/// <summary>&lt;extra_id_0&gt;, &lt;extra_id_1&gt;, ...: their ids run backwards from the end of the vocabulary.</summary>
/// <remarks>Source: transformers tokenization_t5.py, <c>len(sp_model) - 1 + extra_ids - i</c>: 32099 - i for 32,000 pieces and 100 sentinels.</remarks>
internal static class Sentinels
{
    /// <summary>extra_ids where tokenizer_config.json does not say (transformers' default).</summary>
    public const int DefaultCount = 100;

    // No T5 has more than a few hundred; the limit stops a damaged file from filling memory.
    public const int MaxCount = 10_000;

    public static string Name(int index) => $"<extra_id_{index}>";

    public static int Id(int pieces, int count, int index) => pieces - 1 + count - index;

    /// <summary>The number in a sentinel's name, or -1.</summary>
    public static int Index(string name)
    {
        const string Start = "<extra_id_";
        return name.StartsWith(Start, StringComparison.Ordinal) && name.EndsWith('>')
            && int.TryParse(name.AsSpan(Start.Length, name.Length - Start.Length - 1), NumberStyles.None, CultureInfo.InvariantCulture, out int index) && Name(index) == name
            ? index
            : -1;
    }
}
