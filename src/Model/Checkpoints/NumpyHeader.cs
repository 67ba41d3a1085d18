// The header of a .npy file: a Python dict with three known keys. Deliberately not: other Python literals.
using System.Globalization;
using IptNative.Kernels;

namespace IptNative.Model.Checkpoints;

/// <summary>Reads <c>{'descr': '&lt;f4', 'fortran_order': False, 'shape': (100, 768), }</c>.</summary>
/// <param name="path">Named in messages.</param>
/// <param name="text">The header.</param>
internal sealed class NumpyHeader(string path, string text)
{
    // numpy's own limit.
    private const int MaxRank = 64;

    private int _at;

    /// <summary>The three values.</summary>
    /// <exception cref="InvalidDataException">The header is no such dict.</exception>
    public (string Descr, bool Fortran, TensorShape Shape) Parse()
    {
        string? descr = null;
        bool? fortran = null;
        TensorShape? shape = null;
        Expect('{');
        while (!Take('}'))
        {
            string key = Quoted();
            Expect(':');
            switch (key)
            {
                case "descr" when descr is null:
                    descr = Quoted();
                    break;
                case "fortran_order" when fortran is null:
                    fortran = Boolean();
                    break;
                case "shape" when shape is null:
                    shape = Tuple();
                    break;
                default:
                    throw Bad($"the key '{key}', or it twice");
            }
            if (!Take(','))
            {
                Expect('}');
                break;
            }
        }
        if (text.AsSpan(_at).Trim().Length != 0)
            throw Bad("text after the dict");
        return (descr ?? throw Bad("no 'descr'"), fortran ?? throw Bad("no 'fortran_order'"), shape ?? throw Bad("no 'shape'"));
    }

    private TensorShape Tuple()
    {
        var dims = new List<long>();
        Expect('(');
        while (!Take(')'))
        {
            int start = _at;
            while (_at < text.Length && char.IsAsciiDigit(text[_at]))
                _at++;
            if (dims.Count == MaxRank || !long.TryParse(text.AsSpan(start, _at - start), NumberStyles.None, CultureInfo.InvariantCulture, out long d))
                throw Bad("a shape of something else than at most 64 whole numbers");
            // Python 2 wrote long numbers with an L.
            if (_at < text.Length && text[_at] == 'L')
                _at++;
            dims.Add(d);
            if (!Take(','))
            {
                Expect(')');
                break;
            }
        }
        return new TensorShape([.. dims]);
    }

    private bool Boolean()
    {
        Space();
        foreach ((string word, bool value) in ((string, bool)[])[("False", false), ("True", true)])
        {
            if (text.AsSpan(_at).StartsWith(word, StringComparison.Ordinal))
            {
                _at += word.Length;
                return value;
            }
        }
        throw Bad("a fortran_order that is neither True nor False");
    }

    private string Quoted()
    {
        Space();
        if (_at < text.Length && text[_at] is ('\'' or '"'))
        {
            int end = text.IndexOf(text[_at], _at + 1);
            if (end > 0)
            {
                string value = text[(_at + 1)..end];
                _at = end + 1;
                return value;
            }
        }
        throw Bad("something else than a quoted text (structured types are not read)");
    }

    private bool Take(char c)
    {
        Space();
        if (_at >= text.Length || text[_at] != c)
            return false;
        _at++;
        Space();
        return true;
    }

    private void Expect(char c)
    {
        if (!Take(c))
            throw Bad($"no '{c}' at character {_at}");
    }

    private void Space()
    {
        while (_at < text.Length && text[_at] is (' ' or '\n' or '\t'))
            _at++;
    }

    private InvalidDataException Bad(string found) => NumpyFile.Bad(path, $"its header has {found}");
}
