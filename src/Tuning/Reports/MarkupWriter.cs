// Writes HTML and SVG elements, every text and attribute escaped. Deliberately not a template engine.
using System.Globalization;
using System.Text;

namespace IptNative.Tuning.Reports;

/// <summary>A growing piece of markup. Elements nest by delegates, so that none is left open.</summary>
public sealed class MarkupWriter
{
    private readonly StringBuilder _text = new();

    /// <summary>A number as attributes and figures want it: at most two decimals, invariant culture.</summary>
    /// <param name="value">Finite.</param>
    /// <returns>Text without trailing zeros.</returns>
    public static string Number(double value)
    {
        string text = value.ToString("0.##", CultureInfo.InvariantCulture);
        return text == "-0" ? "0" : text;
    }

    /// <summary>Opens an element, writes its content, closes it.</summary>
    /// <param name="name">Element name.</param>
    /// <param name="attributes">Name and value by turns; a null value leaves the attribute out.</param>
    /// <param name="content">Writes what is inside; null makes an empty element.</param>
    /// <returns>This writer.</returns>
    public MarkupWriter Element(string name, IReadOnlyList<string?> attributes, Action<MarkupWriter>? content = null)
    {
        ArgumentNullException.ThrowIfNull(attributes);
        _text.Append('<').Append(name);
        for (int i = 0; i + 1 < attributes.Count; i += 2)
        {
            if (attributes[i + 1] is { } value) _text.Append(' ').Append(attributes[i]).Append("=\"").Append(Escape(value)).Append('"');
        }
        if (content is null)
        {
            _text.Append("/>");
            return this;
        }
        _text.Append('>');
        content(this);
        _text.Append("</").Append(name).Append('>');
        return this;
    }

    /// <summary>An element that holds only text.</summary>
    /// <param name="name">Element name.</param>
    /// <param name="text">Its text, escaped here.</param>
    /// <param name="attributes">Name and value by turns.</param>
    /// <returns>This writer.</returns>
    public MarkupWriter Text(string name, string text, params IReadOnlyList<string?> attributes) => Element(name, attributes, w => w.Text(text));

    /// <summary>Text, escaped here.</summary>
    /// <param name="text">Any text.</param>
    /// <returns>This writer.</returns>
    public MarkupWriter Text(string text)
    {
        _text.Append(Escape(text));
        return this;
    }

    /// <summary>Markup that another writer has made.</summary>
    /// <param name="markup">Well-formed markup.</param>
    /// <returns>This writer.</returns>
    public MarkupWriter Raw(string markup)
    {
        _text.Append(markup);
        return this;
    }

    /// <summary>A line end, for files that a person may open.</summary>
    /// <returns>This writer.</returns>
    public MarkupWriter Line() => Raw("\n");

    /// <summary>What was written.</summary>
    /// <returns>The markup.</returns>
    public override string ToString() => _text.ToString();

    private static string Escape(string text)
    {
        var escaped = new StringBuilder(text.Length);
        foreach (char c in text)
        {
            switch (c)
            {
                case '&': escaped.Append("&amp;"); break;
                case '<': escaped.Append("&lt;"); break;
                case '>': escaped.Append("&gt;"); break;
                case '"': escaped.Append("&quot;"); break;
                // Control characters are in no HTML; a lone surrogate is in no UTF-8.
                case < ' ' and not ('\t' or '\n'): escaped.Append('\uFFFD'); break;
                default: escaped.Append(c); break;
            }
        }
        return escaped.ToString();
    }
}
