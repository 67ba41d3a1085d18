// Reads the pickle inside a torch.save file without running anything. Deliberately not: a general unpickler.
using System.Buffers.Binary;
using System.Text;

namespace IptNative.Model.Checkpoints;

/// <summary>A pickle reader that knows tensors, dicts, lists, tuples and plain values, and refuses every other class or function by its name.</summary>
/// <remarks>
/// Takes the opcodes that protocols 2 to 5 write for those values. Work and memory grow with the pickle's length only: every opcode pushes at most one
/// value, the memo is a dictionary, integers are at most 64 bits. Nothing here recurses; nesting and cycles are checked at the end.
/// Source: CPython Lib/pickletools.py; torch/_utils.py for the arguments of the rebuild functions.
/// </remarks>
internal ref struct Unpickler
{
    /// <summary>Deepest nesting of containers that is accepted; optimizer checkpoints have about 6.</summary>
    internal const int MaxDepth = 64;

    private readonly ReadOnlySpan<byte> _data;
    private readonly string _path;
    private readonly TorchRebuild _rebuild;
    private readonly List<object?> _stack = [];
    private readonly List<int> _marks = [];
    private readonly Dictionary<uint, object?> _memo = [];
    private int _at;

    private Unpickler(ReadOnlySpan<byte> data, string path, TorchRebuild rebuild)
    {
        _data = data;
        _path = path;
        _rebuild = rebuild;
    }

    /// <summary>Reads one pickle.</summary>
    /// <param name="data">The pickle; bytes after its STOP are an error.</param>
    /// <param name="path">Named in messages.</param>
    /// <param name="rebuild">Makes storages and tensors.</param>
    /// <returns>The value; see <see cref="TorchDict"/> for its types.</returns>
    /// <exception cref="InvalidDataException">The pickle is damaged, or needs a class or function that is not on the list.</exception>
    public static object? Read(ReadOnlySpan<byte> data, string path, TorchRebuild rebuild)
    {
        var unpickler = new Unpickler(data, path, rebuild);
        object? root = unpickler.Run();
        PickleTree.Check(root, path, MaxDepth);
        return root;
    }

    private object? Run()
    {
        while (true)
        {
            int start = _at;
            byte op = Byte();
            switch (op)
            {
                case 0x80: // PROTO
                    int protocol = Byte();
                    if (protocol > 5)
                        throw Bad($"protocol {protocol}, expected at most 5");
                    break;
                case 0x95: // FRAME: only a hint for buffering
                    Bytes(8);
                    break;
                case (byte)'.': // STOP
                    object? result = Pop();
                    if (_stack.Count != 0 || _at != _data.Length)
                        throw Bad("values or bytes left over at its end");
                    return result;
                case (byte)'(':
                    _marks.Add(_stack.Count);
                    break;
                case (byte)'0': // POP also takes a mark that lies on top
                    if (_marks.Count > 0 && _marks[^1] == _stack.Count)
                        _marks.RemoveAt(_marks.Count - 1);
                    else
                        Pop();
                    break;
                case (byte)'1': // POP_MARK
                    PopToMark();
                    break;
                case (byte)'2': // DUP
                    Push(Top());
                    break;
                case (byte)'N':
                    Push(null);
                    break;
                case 0x88:
                    Push(true);
                    break;
                case 0x89:
                    Push(false);
                    break;
                case (byte)'J':
                    Push((long)BinaryPrimitives.ReadInt32LittleEndian(Bytes(4)));
                    break;
                case (byte)'K':
                    Push((long)Byte());
                    break;
                case (byte)'M':
                    Push((long)BinaryPrimitives.ReadUInt16LittleEndian(Bytes(2)));
                    break;
                case 0x8a: // LONG1
                    Push(Long(Byte()));
                    break;
                case 0x8b: // LONG4
                    Push(Long(Length4()));
                    break;
                case (byte)'G':
                    Push(BinaryPrimitives.ReadDoubleBigEndian(Bytes(8)));
                    break;
                case 0x8c:
                    Push(Text(Byte()));
                    break;
                case (byte)'X':
                    Push(Text(Length4()));
                    break;
                case 0x8d:
                    Push(Text(Length8()));
                    break;
                case (byte)'U': // SHORT_BINSTRING: Python 2 text
                    Push(Text(Byte()));
                    break;
                case (byte)'T':
                    Push(Text(Length4()));
                    break;
                case (byte)'C':
                    Push(Bytes(Byte()).ToArray());
                    break;
                case (byte)'B':
                    Push(Bytes(Length4()).ToArray());
                    break;
                case 0x8e:
                    Push(Bytes(Length8()).ToArray());
                    break;
                case (byte)']':
                    Push(new List<object?>());
                    break;
                case (byte)'a':
                    object? item = Pop();
                    Target<List<object?>>("a list").Add(item);
                    break;
                case (byte)'e':
                    object?[] items = PopToMark();
                    Target<List<object?>>("a list").AddRange(items);
                    break;
                case (byte)'l':
                    Push(new List<object?>(PopToMark()));
                    break;
                case (byte)')':
                    Push(Array.Empty<object?>());
                    break;
                case (byte)'t':
                    Push(PopToMark());
                    break;
                case 0x85:
                case 0x86:
                case 0x87:
                    Push(PopMany(op - 0x84));
                    break;
                case (byte)'}':
                    Push(new TorchDict());
                    break;
                case (byte)'d':
                    object?[] pairs = PopToMark();
                    Push(new TorchDict());
                    SetItems(pairs);
                    break;
                case (byte)'s':
                    SetItems(PopMany(2));
                    break;
                case (byte)'u':
                    SetItems(PopToMark());
                    break;
                case (byte)'q':
                    _memo[Byte()] = Top();
                    break;
                case (byte)'r':
                    _memo[BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4))] = Top();
                    break;
                case 0x94: // MEMOIZE
                    _memo[(uint)_memo.Count] = Top();
                    break;
                case (byte)'h':
                    Push(Recall(Byte()));
                    break;
                case (byte)'j':
                    Push(Recall(BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4))));
                    break;
                case (byte)'c': // GLOBAL
                    string module = Line();
                    Push(_rebuild.Global(module, Line()));
                    break;
                case 0x93: // STACK_GLOBAL
                    object?[] names = PopMany(2);
                    Push(names is [string from, string name] ? _rebuild.Global(from, name) : throw Bad("a global whose name is no text"));
                    break;
                case (byte)'i': // INST names a class; none of those on the list is made so
                    string instModule = Line();
                    throw _rebuild.Refused(instModule, Line());
                case (byte)'R': // REDUCE
                    object? arguments = Pop();
                    object? function = Pop();
                    Push(Call(function, arguments));
                    break;
                case 0x81: // NEWOBJ
                    object? newArguments = Pop();
                    object? type = Pop();
                    Push(ReferenceEquals(type, TorchGlobal.OrderedDict) ? Call(type, newArguments) : throw Bad("an instance of something that is no OrderedDict"));
                    break;
                case (byte)'b': // BUILD: attributes of a dict (_metadata of a state dict) say nothing about tensors
                    object? state = Pop();
                    if (Top() is not TorchDict || state is not TorchDict)
                        throw Bad("attributes for something that is no dict");
                    break;
                case (byte)'Q': // BINPERSID
                    Push(_rebuild.Storage(Pop()));
                    break;
                default:
                    throw Bad($"opcode 0x{op:x2} at byte {start}, which torch.save does not write for tensors");
            }
        }
    }

    private readonly object? Call(object? function, object? arguments)
    {
        if (function is not TorchGlobal global || arguments is not object?[] list)
            throw Bad("a call of something that is no function");
        if (global != TorchGlobal.OrderedDict)
            return _rebuild.Tensor(global, list);
        var dict = new TorchDict();
        if (list is [])
            return dict;
        if (list is not [List<object?> pairs])
            throw Bad("an OrderedDict made of something else than pairs");
        foreach (object? pair in pairs)
        {
            if (pair is object?[] and [var key, var value])
                SetItem(dict, key, value);
            else if (pair is List<object?> and [var listKey, var listValue])
                SetItem(dict, listKey, listValue);
            else
                throw Bad("an OrderedDict made of something else than pairs");
        }
        return dict;
    }

    private readonly void SetItems(object?[] pairs)
    {
        TorchDict dict = Target<TorchDict>("a dict");
        if (pairs.Length % 2 != 0)
            throw Bad("a key without a value");
        for (int i = 0; i < pairs.Length; i += 2)
            SetItem(dict, pairs[i], pairs[i + 1]);
    }

    private readonly void SetItem(TorchDict dict, object? key, object? value)
    {
        if (key is not (string or long))
            throw Bad($"a dict key of type {key?.GetType().Name ?? "None"}, expected text or a whole number");
        if (!dict.TryAdd(key, value))
            throw Bad($"'{key}' twice in one dict");
    }

    // Below a mark lie values of an outer construction: taking them would mix two containers up.
    private readonly int Floor => _marks.Count > 0 ? _marks[^1] : 0;

    private readonly void Push(object? value) => _stack.Add(value);

    private readonly object? Top() => _stack.Count > Floor ? _stack[^1] : throw Bad("a use of an empty stack");

    private readonly object? Pop()
    {
        object? value = Top();
        _stack.RemoveAt(_stack.Count - 1);
        return value;
    }

    private readonly object?[] PopMany(int count)
    {
        if (_stack.Count - count < Floor)
            throw Bad("a use of an empty stack");
        object?[] values = [.. _stack[^count..]];
        _stack.RemoveRange(_stack.Count - count, count);
        return values;
    }

    private readonly object?[] PopToMark()
    {
        if (_marks.Count == 0)
            throw Bad("a missing mark");
        object?[] values = PopMany(_stack.Count - _marks[^1]);
        _marks.RemoveAt(_marks.Count - 1);
        return values;
    }

    private readonly T Target<T>(string what)
        where T : class => Top() as T ?? throw Bad($"items for something that is not {what}");

    private readonly object? Recall(uint index) => _memo.TryGetValue(index, out object? value) ? value : throw Bad($"memo entry {index}, which was never made");

    private byte Byte() => Bytes(1)[0];

    private ReadOnlySpan<byte> Bytes(int count)
    {
        if (count > _data.Length - _at)
            throw Bad($"{count} bytes wanted at byte {_at} of {_data.Length}");
        ReadOnlySpan<byte> bytes = _data.Slice(_at, count);
        _at += count;
        return bytes;
    }

    private int Length4()
    {
        uint n = BinaryPrimitives.ReadUInt32LittleEndian(Bytes(4));
        return n <= (uint)(_data.Length - _at) ? (int)n : throw Bad($"a length of {n} at byte {_at} of {_data.Length}");
    }

    private int Length8()
    {
        ulong n = BinaryPrimitives.ReadUInt64LittleEndian(Bytes(8));
        return n <= (ulong)(_data.Length - _at) ? (int)n : throw Bad($"a length of {n} at byte {_at} of {_data.Length}");
    }

    private long Long(int count)
    {
        ReadOnlySpan<byte> bytes = Bytes(count);
        if (count > 8)
            throw Bad($"a whole number of {count} bytes, expected at most 8");
        long value = count > 0 && bytes[^1] >= 0x80 ? -1 : 0;
        for (int i = count - 1; i >= 0; i--)
            value = (value << 8) | bytes[i];
        return value;
    }

    private string Text(int count) => Encoding.UTF8.GetString(Bytes(count));

    private string Line()
    {
        int length = _data[_at..].IndexOf((byte)'\n');
        if (length < 0)
            throw Bad("a name without an end");
        string text = Text(length);
        _at++;
        return text;
    }

    private readonly InvalidDataException Bad(string found) =>
        new($"{_path}: reading the pickle of a PyTorch file; found {found}. The file is damaged or holds more than tensors: save the state dict again, or use safetensors.");
}
