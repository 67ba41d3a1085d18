using IptNative.Model.Checkpoints;
using Xunit;

namespace IptNative.Model.Tests.Checkpoints;

public sealed class UnpicklerTests
{
    [Theory]
    [InlineData("posix", "system")]
    [InlineData("os", "system")]
    [InlineData("builtins", "eval")]
    [InlineData("torch", "load")]
    [InlineData("torch._utils", "_rebuild_device_tensor_from_numpy")]
    [InlineData("collections", "OrderedDict.__init__")]
    public void GlobalsAreRefusedByName(string module, string name)
    {
        string classic = WeightExtensions.Message(() => new PickleMaker().Global(module, name).Text("touch /tmp/owned").Op(0x85, (byte)'R').Read());
        Assert.Contains($"it names '{module}.{name}'", classic, StringComparison.Ordinal);
        Assert.Contains("nothing was run here", classic, StringComparison.Ordinal);

        string protocol4 = WeightExtensions.Message(() => new PickleMaker(4).Text(module).Text(name).Op(0x93).Text("x").Op(0x85, (byte)'R').Read());
        Assert.Contains($"'{module}.{name}'", protocol4, StringComparison.Ordinal);

        // The oldest way to make an instance: INST takes its arguments from the mark.
        string inst = WeightExtensions.Message(() => PickleMaker.Raw().Op("(").Text("x").Op($"i{module}\n{name}\n").Read());
        Assert.Contains($"'{module}.{name}'", inst, StringComparison.Ordinal);
    }

    [Fact]
    public void ProtocolZeroShellCallIsRefusedByName() =>
        Assert.Contains("'posix.system'", WeightExtensions.Message(() => PickleMaker.Raw().Op("cposix\nsystem\n(S'id'\ntR").Read()), StringComparison.Ordinal);

    [Fact]
    public void HostileNameDoesNotReachTheTerminal()
    {
        string message = WeightExtensions.Message(() => new PickleMaker().Global("\u001b[2Jos", new string('x', 500)).Read());
        Assert.DoesNotContain('\u001b', message);
        Assert.True(message.Length < 600, message);
    }

    [Fact]
    public void PlainValuesOfEveryKindAreRead()
    {
        var root = Assert.IsType<TorchDict>(new PickleMaker(4).Op(0x95, 9, 0, 0, 0, 0, 0, 0, 0).Op("}(")
            .Text("n").Op("N").Text("t").Op(0x88).Text("f").Op(0x89)
            .Text("k").Op((byte)'K', 255).Text("m").Op((byte)'M', 0, 1).Text("j").Op((byte)'J', 0xff, 0xff, 0xff, 0xff)
            .Text("long").Op(0x8a, 2, 0, 0x80).Text("zero").Op(0x8a, 0)
            .Text("g").Op((byte)'G', 0x3f, 0xf8, 0, 0, 0, 0, 0, 0)
            .Text("short").Op(0x8c, 2, 0xc3, 0xa4).Text("bytes").Op((byte)'C', 2, 1, 2)
            .Text("list").Op("](").Op((byte)'K', 1).Op((byte)'K', 2).Op("e").Op((byte)'K', 3).Op("a")
            .Text("tuple").Op("NN").Op(0x86)
            .Int(7).Text("seven")
            .Op("u").Read());
        Assert.Equal([null, true, false, 255L, 256L, -1L, -32768L, 0L, 1.5, "ä"], root.Items.Take(10).Select(i => i.Value));
        Assert.True(root.TryGet("bytes", out object? bytes));
        Assert.Equal([1, 2], Assert.IsType<byte[]>(bytes));
        Assert.True(root.TryGet("list", out object? list));
        Assert.Equal([1L, 2L, 3L], Assert.IsType<List<object?>>(list));
        Assert.True(root.TryGet("tuple", out object? tuple));
        Assert.Equal([null, null], Assert.IsType<object?[]>(tuple));
        Assert.True(root.TryGet(7L, out object? seven));
        Assert.Equal("seven", seven);
    }

    [Fact]
    public void CyclesAreRefused()
    {
        // l = []; l.append(l)
        string list = WeightExtensions.Message(() => new PickleMaker().Op("]").Op((byte)'q', 0).Op((byte)'h', 0).Op("a").Read());
        Assert.Contains("holds itself", list, StringComparison.Ordinal);
        // d = {}; d['a'] = ({'b': d},)
        string dict = WeightExtensions.Message(() => new PickleMaker().Op("}").Op((byte)'q', 0).Text("a").Op("}").Text("b").Op((byte)'h', 0).Op("s").Op(0x85).Op("s").Read());
        Assert.Contains("holds itself", dict, StringComparison.Ordinal);
    }

    [Fact]
    public void DeepNestingIsRefusedWithoutRecursion()
    {
        var deep = new PickleMaker().Op("N");
        for (int i = 0; i < 1_000_000; i++)
            deep.Op(0x85);
        Assert.Contains($"more than {Unpickler.MaxDepth} deep", WeightExtensions.Message(() => deep.Read()), StringComparison.Ordinal);

        var allowed = new PickleMaker().Op("N");
        for (int i = 0; i < Unpickler.MaxDepth; i++)
            allowed.Op(0x85);
        Assert.IsType<object?[]>(allowed.Read());
    }

    [Fact]
    public void SharedDictsDoNotMultiply()
    {
        // 40 levels, each holding the next twice: 2^40 paths, and no tensor at all.
        var laughs = new PickleMaker().Op("}");
        for (int i = 0; i < 40; i++)
            laughs.Op((byte)'q', (byte)i).Op("0}").Text("a").Op((byte)'h', (byte)i).Op("s").Text("b").Op((byte)'h', (byte)i).Op("s");
        using var folder = new TempFolder();
        string path = folder.Write("laughs.bin", laughs.Zip());
        Assert.Contains("entries in nested dicts", WeightExtensions.Message(() => TorchFile.Open(path)), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("0", "empty stack")]
    [InlineData("t", "missing mark")]
    [InlineData("NNNs", "not a dict")]
    [InlineData("}NNs", "a dict key of type None")]
    [InlineData("}(NNNu", "a key without a value")]
    [InlineData("Na", "empty stack")]
    [InlineData("NNa", "not a list")]
    [InlineData("N(s", "empty stack")]
    [InlineData("NNR", "a call of something that is no function")]
    [InlineData("N}b", "attributes")]
    [InlineData("NN", "left over")]
    [InlineData("NQ", "persistent id")]
    [InlineData("I1\n", "opcode 0x49")]
    [InlineData("ccollections\nOrderedDict", "a name without an end")]
    [InlineData("ctorch\nFloatStorage\n)R", "a call of torch.FloatStorage")]
    public void BrokenProgramsAreRefused(string program, string reason) =>
        Assert.Contains(reason, WeightExtensions.Message(() => new PickleMaker().Op(program).Read()), StringComparison.Ordinal);

    [Fact]
    public void LengthsBeyondThePickleAreRefusedBeforeAllocation()
    {
        string x = WeightExtensions.Message(() => new PickleMaker().Op((byte)'X', 0xff, 0xff, 0xff, 0xff).Read());
        Assert.Contains("a length of 4294967295", x, StringComparison.Ordinal);
        string b = WeightExtensions.Message(() => new PickleMaker(4).Op(0x8e, 0, 0, 0, 0, 0, 0, 0, 0x10).Read());
        Assert.Contains("a length of 1152921504606846976", b, StringComparison.Ordinal);
        string l = WeightExtensions.Message(() => new PickleMaker().Op(0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1).Read());
        Assert.Contains("9 bytes, expected at most 8", l, StringComparison.Ordinal);
        Assert.Contains("memo entry 4294967295", WeightExtensions.Message(() => new PickleMaker().Op((byte)'j', 0xff, 0xff, 0xff, 0xff).Read()), StringComparison.Ordinal);
        Assert.Contains("protocol 6", WeightExtensions.Message(() => new PickleMaker(6).Op("N").Read()), StringComparison.Ordinal);
    }

    [Fact]
    public void OneKeyTwiceIsRefused() =>
        Assert.Contains("'a' twice in one dict", WeightExtensions.Message(() => new PickleMaker().Op("}").Text("a").Op("Ns").Text("a").Op("Ns").Read()), StringComparison.Ordinal);
}
