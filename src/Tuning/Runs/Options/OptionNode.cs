// A JSON text as a tree that remembers where each value stands, so that messages can say it. Deliberately not: what the values mean (OptionReader).
using System.Text;
using System.Text.Json;

namespace IptNative.Tuning.Runs.Options;

/// <summary>A value of a configuration: where it stands, and what it is.</summary>
internal sealed class OptionNode
{
    private const int MaxBytes = 1 << 22;
    private const int MaxDepth = 16;

    private OptionNode(JsonTokenType kind, string raw, string place, string folder, bool fromCommandLine)
    {
        (Kind, Raw, Place, Folder, FromCommandLine) = (kind, raw, place, folder, fromCommandLine);
    }

    /// <summary>StartObject, StartArray, String, Number, True, False or Null.</summary>
    public JsonTokenType Kind { get; private set; }

    /// <summary>A text's characters, a number's digits; as it was typed on the command line.</summary>
    public string Raw { get; private set; }

    /// <summary>"run.json, line 3" or "--set prompt.length=20".</summary>
    public string Place { get; }

    /// <summary>What relative paths start from.</summary>
    public string Folder { get; }

    /// <summary>Typed on a command line, where texts have no quotation marks.</summary>
    public bool FromCommandLine { get; }

    /// <summary>An object's members, in order.</summary>
    public List<KeyValuePair<string, OptionNode>> Members { get; } = [];

    /// <summary>An array's items.</summary>
    public List<OptionNode> Items { get; } = [];

    /// <summary>The member of a name, or null.</summary>
    public OptionNode? Member(string name) => Members.Find(m => m.Key == name).Value;

    /// <summary>Adds or replaces a member.</summary>
    public void SetMember(string name, OptionNode value)
    {
        int at = Members.FindIndex(m => m.Key == name);
        if (at >= 0)
            Members[at] = KeyValuePair.Create(name, value);
        else
            Members.Add(KeyValuePair.Create(name, value));
    }

    /// <summary>An object with one member, in the place of a short form.</summary>
    public static OptionNode Wrap(OptionNode value, string name)
    {
        OptionNode wrapped = value.EmptyObject();
        wrapped.Members.Add(KeyValuePair.Create(name, value));
        return wrapped;
    }

    /// <summary>A list of one.</summary>
    public static OptionNode ListOf(OptionNode value)
    {
        var list = new OptionNode(JsonTokenType.StartArray, "", value.Place, value.Folder, value.FromCommandLine);
        list.Items.Add(value);
        return list;
    }

    /// <summary>An empty object that stands where this value stands.</summary>
    public OptionNode EmptyObject() => new(JsonTokenType.StartObject, "", Place, Folder, FromCommandLine);

    /// <summary>Reads a file.</summary>
    /// <exception cref="InvalidDataException">It is no JSON object; the message says where it stops being one.</exception>
    public static OptionNode Load(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        if (file.Length > MaxBytes)
            throw new InvalidDataException($"{path}: reading options; found {file.Length} bytes, expected at most {MaxBytes}. Is it another file?");
        byte[] bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        return Parse(bytes, path, Path.GetDirectoryName(Path.GetFullPath(path))!); // a full path of a file has a folder
    }

    /// <summary>Reads a text of a file.</summary>
    /// <param name="bytes">UTF-8; comments and trailing commas are taken.</param>
    /// <param name="path">Names it in messages.</param>
    /// <param name="folder">What relative paths start from.</param>
    public static OptionNode Parse(ReadOnlySpan<byte> bytes, string path, string folder)
    {
        if (bytes.StartsWith(Encoding.UTF8.Preamble))
            bytes = bytes[Encoding.UTF8.Preamble.Length..];
        var parser = new Parser(bytes, path, folder);
        OptionNode root = parser.Document();
        return root.Kind == JsonTokenType.StartObject ? root
            : throw new InvalidDataException($"{root.Place}: reading options; found {root.Describe()}, expected an object: {{ \"model\": ..., \"tasks\": [...] }}.");
    }

    /// <summary>Reads what was typed behind the equals sign of <c>--set</c>: JSON where it is some, text otherwise.</summary>
    public static OptionNode FromArgument(string value, string place, string folder)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(value);
        bool json = true;
        var reader = new Utf8JsonReader(bytes, new JsonReaderOptions { MaxDepth = MaxDepth });
        try
        {
            while (reader.Read())
            {
            }
        }
        catch (JsonException)
        {
            json = false; // a text without quotation marks
        }
        if (!json || bytes.Length == 0)
            return new OptionNode(JsonTokenType.String, value, place, folder, fromCommandLine: true);
        OptionNode node = new Parser(bytes, place, folder, fromCommandLine: true).Document();
        if (node.Kind is JsonTokenType.Number or JsonTokenType.True or JsonTokenType.False)
            node.Raw = value;
        return node;
    }

    /// <summary>The value in words, for messages.</summary>
    public string Describe() => Kind switch
    {
        JsonTokenType.StartObject => "an object",
        JsonTokenType.StartArray => "a list",
        JsonTokenType.String => $"the text \"{(Raw.Length <= 60 ? Raw : Raw[..60] + "...")}\"",
        JsonTokenType.Number => $"the number {Raw}",
        JsonTokenType.True => "true",
        JsonTokenType.False => "false",
        _ => "null",
    };

    private ref struct Parser
    {
        private readonly ReadOnlySpan<byte> _bytes;
        private readonly string _path;
        private readonly string _folder;
        private readonly bool _fromCommandLine;
        private Utf8JsonReader _reader;
        private int _counted;
        private int _line = 1;

        public Parser(ReadOnlySpan<byte> bytes, string path, string folder, bool fromCommandLine = false)
        {
            _bytes = bytes;
            (_path, _folder, _fromCommandLine) = (path, folder, fromCommandLine);
            _reader = new Utf8JsonReader(bytes, new JsonReaderOptions { AllowTrailingCommas = true, CommentHandling = JsonCommentHandling.Skip, MaxDepth = MaxDepth });
        }

        public OptionNode Document()
        {
            try
            {
                Next();
                OptionNode root = Value();
                _reader.Read(); // throws where something follows
                return root;
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException)
            {
                throw new InvalidDataException($"{Place()}: reading options; found broken JSON ({e.Message.Split(" LineNumber:")[0].TrimEnd('.')}). Correct it there; comments and trailing commas are allowed.", e);
            }
        }

        private OptionNode Value()
        {
            string raw = _reader.TokenType switch
            {
                JsonTokenType.String => _reader.GetString()!,
                JsonTokenType.Number => Encoding.ASCII.GetString(_reader.ValueSpan),
                _ => "",
            };
            var node = new OptionNode(_reader.TokenType, raw, Place(), _folder, _fromCommandLine);
            if (node.Kind == JsonTokenType.StartArray)
            {
                for (Next(); _reader.TokenType != JsonTokenType.EndArray; Next())
                    node.Items.Add(Value());
            }
            else if (node.Kind == JsonTokenType.StartObject)
            {
                for (Next(); _reader.TokenType != JsonTokenType.EndObject; Next())
                {
                    string name = _reader.GetString()!;
                    if (node.Member(name) is { } first)
                        throw new InvalidDataException($"{Place()}: reading options; found '{name}' a second time ({first.Place} has the first), expected each name once. Delete one.");
                    Next();
                    node.Members.Add(KeyValuePair.Create(name, Value()));
                }
            }
            return node;
        }

        private void Next()
        {
            if (!_reader.Read())
                throw new JsonException("the text ends too early");
        }

        private string Place()
        {
            if (_fromCommandLine)
                return _path;
            int at = (int)Math.Min(_bytes.Length, Math.Max(_reader.TokenStartIndex, _reader.BytesConsumed - 1));
            _line += at > _counted ? _bytes[_counted..at].Count((byte)'\n') : 0;
            _counted = Math.Max(at, _counted);
            return $"{_path}, line {_line}";
        }
    }
}
