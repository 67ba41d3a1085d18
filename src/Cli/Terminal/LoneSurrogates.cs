// JSON strings with unpaired surrogate escapes, which System.Text.Json refuses to give out. Nothing else of JSON.
using System.Globalization;
using System.Text;

namespace IptNative.Cli.Terminal;

/// <summary>Reads a JSON string literal that holds unpaired surrogates.</summary>
internal static class LoneSurrogates
{
    /// <summary>Undoes the escapes of a literal that a JSON parser has already found well-formed.</summary>
    /// <param name="literal">The literal with its quotation marks.</param>
    /// <returns>UTF-16 text, unpaired surrogates kept.</returns>
    public static string Unescape(string literal)
    {
        var text = new StringBuilder(literal.Length);
        for (int i = 1; i < literal.Length - 1; i++)
        {
            if (literal[i] != '\\')
            {
                text.Append(literal[i]);
                continue;
            }
            char kind = literal[++i];
            text.Append(kind switch
            {
                'b' => '\b',
                'f' => '\f',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => (char)ushort.Parse(literal.AsSpan(i + 1, 4), NumberStyles.HexNumber),
                _ => kind,
            });
            if (kind == 'u')
                i += 4;
        }
        return text.ToString();
    }
}
