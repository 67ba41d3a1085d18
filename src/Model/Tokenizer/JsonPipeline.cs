// The normalizer and pre_tokenizer of a tokenizer.json as rules of TextNormalizer. Deliberately not: a general pipeline; what no T5 uses is refused by name.
using System.Buffers;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace IptNative.Model.Tokenizer;

/// <summary>Compiles the pipeline once, at load.</summary>
/// <remarks>
/// Every T5 export (transformers convert_slow_tokenizer.py, all versions) is a Precompiled map, then whitespace steps, then Metaspace: that becomes one pass of TextNormalizer.
/// Anything else that is understood (Replace, Lowercase, Nmt, Prepend) runs as string rewriting before it.
/// Unicode normal forms (NFC, NFKC, ...) are refused: .NET without ICU, which this program is built for, leaves text unchanged when asked for them.
/// </remarks>
internal static class JsonPipeline
{
    private const string White = "\t\n\v\f\r \u0085\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200A\u2028\u2029\u202F\u205F\u3000";

    private static readonly SearchValues<char> WhiteSpace = SearchValues.Create(White);

    public static (TextNormalizer Normalizer, Func<string, string>? Rewrite, bool HasPrefix) Read(string path, JsonElement root)
    {
        List<JsonElement> steps = Flatten(root, "normalizer", "normalizers");
        WhitespaceRules rules = WhitespaceRules.Untouched with { Escape = true };
        bool isWhitespaceSplit = false, hasMetaspace = false;
        foreach (JsonElement step in Flatten(root, "pre_tokenizer", "pretokenizers"))
        {
            switch (Type(step))
            {
                case "WhitespaceSplit":
                    isWhitespaceSplit = true;
                    rules = rules with { StripLeading = true, Collapse = true, StripTrailing = true };
                    break;
                case "Metaspace" when !hasMetaspace:
                    hasMetaspace = true;
                    rules = rules with { Prefix = ReadPrefix(path, step) };
                    break;
                default:
                    throw TokenizerJson.Invalid(path, $"found the pre_tokenizer '{Type(step)}', expected WhitespaceSplit and one Metaspace");
            }
        }

        if (!hasMetaspace)
            throw TokenizerJson.Invalid(path, "found no Metaspace pre_tokenizer, expected one");

        CharsMap? map = steps.Count > 0 && Type(steps[0]) == "Precompiled" ? ReadMap(path, steps[0]) : null;
        int first = map is null ? 0 : 1;
        bool isPlain = steps.Skip(first).All(s => IsCollapse(s) || Type(s) == "Strip") && (!isWhitespaceSplit || MapsWhiteSpace(map));
        if (isPlain)
        {
            foreach (JsonElement step in steps.Skip(first))
            {
                rules = IsCollapse(step)
                    ? rules with { Collapse = true }
                    : rules with { StripLeading = rules.StripLeading || TokenizerJson.Flag(step, "strip_left"), StripTrailing = rules.StripTrailing || TokenizerJson.Flag(step, "strip_right") };
            }

            return (new TextNormalizer(map, null, rules), null, rules.Prefix != PrefixRule.Never);
        }

        List<Func<string, string>> rewrites = [.. steps.Select(s => ReadRewrite(path, s))];
        if (isWhitespaceSplit)
            rewrites.Add(MapWhiteSpace);
        return (new TextNormalizer(null, null, rules), text => rewrites.Aggregate(text, (t, rewrite) => rewrite(t)), rules.Prefix != PrefixRule.Never);
    }

    private static string Type(JsonElement step) => TokenizerFolder.TokenText(step, "type") ?? "";

    private static List<JsonElement> Flatten(JsonElement owner, string name, string children)
    {
        List<JsonElement> steps = [];
        if (TokenizerFolder.Property(owner, name) is { ValueKind: JsonValueKind.Object } step)
            Add(step);
        return steps;

        void Add(JsonElement step)
        {
            // Depth is bounded by the JSON reader's own limit of 64.
            if (Type(step) != "Sequence")
            {
                steps.Add(step);
                return;
            }

            foreach (JsonElement child in step.GetProperty(children).EnumerateArray())
                Add(child);
        }
    }

    private static PrefixRule ReadPrefix(string path, JsonElement metaspace)
    {
        if (TokenizerFolder.TokenText(metaspace, "replacement") is { } symbol and not "▁")
            throw TokenizerJson.Invalid(path, $"found the Metaspace replacement '{symbol}', expected '▁'");
        string scheme = TokenizerFolder.TokenText(metaspace, "prepend_scheme") ?? (TokenizerFolder.Property(metaspace, "add_prefix_space") is { ValueKind: JsonValueKind.False } ? "never" : "always");
        return scheme switch
        {
            "always" => PrefixRule.WhereMissing,
            "first" => PrefixRule.FirstWhereMissing,
            "never" => PrefixRule.Never,
            _ => throw TokenizerJson.Invalid(path, $"found the prepend_scheme '{scheme}', expected always, first or never"),
        };
    }

    private static CharsMap? ReadMap(string path, JsonElement step)
    {
        if (TokenizerFolder.Property(step, "precompiled_charsmap") is not { ValueKind: JsonValueKind.String } text)
            return null;
        byte[] blob = text.GetBytesFromBase64();
        return blob.Length == 0 ? null : new CharsMap(blob, path);
    }

    private static bool IsCollapse(JsonElement step) =>
        Type(step) == "Replace" && TokenizerFolder.Property(step, "pattern") is { } pattern && TokenizerFolder.TokenText(pattern, "Regex") == " {2,}" && TokenizerFolder.TokenText(step, "content") is " " or "▁";

    private static bool MapsWhiteSpace(CharsMap? map)
    {
        foreach (char c in White)
        {
            byte[] utf8 = Encoding.UTF8.GetBytes(c.ToString());
            if (c != ' ' && (map is null || map.LongestPrefix(utf8, out ReadOnlySpan<byte> written) != utf8.Length || !written.SequenceEqual(" "u8)))
                return false;
        }

        return true;
    }

    private static string MapWhiteSpace(string text)
    {
        if (!text.AsSpan().ContainsAny(WhiteSpace))
            return text;
        char[] mapped = text.ToCharArray();
        for (int i = 0; i < mapped.Length; i++)
        {
            if (WhiteSpace.Contains(mapped[i]))
                mapped[i] = ' ';
        }

        return new string(mapped);
    }

    private static Func<string, string> ReadRewrite(string path, JsonElement step)
    {
        switch (Type(step))
        {
            case "Precompiled":
                TextNormalizer map = new(ReadMap(path, step), null, WhitespaceRules.Untouched);
                return text =>
                {
                    TokenBuffer buffer = new();
                    (int start, int end) = map.Normalize(Encoding.UTF8.GetBytes(text), true, buffer);
                    return Encoding.UTF8.GetString(buffer.Text.AsSpan(start..end));
                };
            case "Strip":
                bool left = TokenizerJson.Flag(step, "strip_left"), right = TokenizerJson.Flag(step, "strip_right");
                return text => (left, right) switch { (true, true) => text.Trim(), (true, false) => text.TrimStart(), (false, true) => text.TrimEnd(), _ => text };
            case "Replace":
                string content = TokenizerFolder.TokenText(step, "content") ?? "";
                JsonElement pattern = step.GetProperty("pattern");
                if (TokenizerFolder.TokenText(pattern, "String") is { Length: > 0 } literal)
                    return text => text.Replace(literal, content, StringComparison.Ordinal);
                Regex regex = ReadRegex(path, TokenizerFolder.TokenText(pattern, "Regex"));
                return text => regex.Replace(text, _ => content);
            case "Lowercase":
                return text => text.ToLowerInvariant();
            case "Prepend":
                string prefix = TokenizerFolder.TokenText(step, "prepend") ?? "";
                return text => text.Length == 0 ? text : prefix + text;
            case "Nmt":
                return Nmt;
            default:
                throw TokenizerJson.Invalid(path, $"found the normalizer '{Type(step)}', expected Precompiled, Strip, Replace, Lowercase, Prepend or Nmt");
        }
    }

    private static Regex ReadRegex(string path, string? pattern)
    {
        try
        {
            // Without backtracking: time stays linear whatever the file and the text.
            return new Regex(pattern ?? throw TokenizerJson.Invalid(path, "found a Replace without a pattern, expected String or Regex"), RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            throw TokenizerJson.Invalid(path, $"found the pattern '{pattern}' in a Replace, expected a regular expression that needs no backtracking", e);
        }
    }

    // Source: HF tokenizers normalizers/unicode.rs do_nmt.
    private static string Nmt(string text)
    {
        StringBuilder result = new(text.Length);
        foreach (char c in text)
        {
            if (c is (>= '\u0001' and <= '\u0008') or '\u000B' or (>= '\u000E' and <= '\u001F') or '\u007F' or '\u008F' or '\u009F')
                continue;
            bool isSpace = c is '\u0009' or '\u000A' or '\u000C' or '\u000D' or '\u1680' or (>= '\u200B' and <= '\u200F') or '\u2028' or '\u2029' or '\u2581' or '\uFEFF' or '\uFFFD';
            result.Append(isSpace ? ' ' : c);
        }

        return result.ToString();
    }
}
