// The way from frozen bytes to callable code: every refusal has its reason, nothing runs that was not checked, and no page is ever writable and executable.
using System.Globalization;
using Iced.Intel;
using IptNative.Kernels.Cpu;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using Xunit;

namespace IptNative.Kernels.Tests.MachineCode;

public sealed class LoaderTests
{
    private const string Managed = "managed kernels instead of AVX512-BF16 machine code: ";

    /// <summary>A machine on which nothing stands in the way.</summary>
    private static MachineCodeHost Willing(IPageSystem pages) => new(IsLinuxX64: true, HasAvx512: true, HasBF16: true, Setting: null, pages);

    [Fact]
    public void TheGateNamesWhatIsMissing()
    {
        MachineCodeHost host = Willing(new LinuxPages());
        Assert.Null(host.Obstacle());
        Assert.Null((host with { Setting = "on" }).Obstacle());
        Assert.Null((host with { Setting = "" }).Obstacle());
        Assert.Equal("IPTNATIVE_MACHINE_CODE is off", (host with { Setting = " OFF" }).Obstacle());
        Assert.Equal("IPTNATIVE_MACHINE_CODE is 'perhaps', expected on or off", (host with { Setting = "perhaps" }).Obstacle());
        Assert.Equal("the code is for Linux on x86-64", (host with { IsLinuxX64 = false }).Obstacle());
        Assert.Equal("the processor or the system has no AVX-512 F and BW, or .NET was told not to use it", (host with { HasAvx512 = false }).Obstacle());
        Assert.Equal("the processor has no AVX512-BF16", (host with { HasBF16 = false }).Obstacle());
        var off = BF16Kernels.Load(host with { Setting = "off" }, CodeTable.Frozen());
        Assert.Equal(new MachineCodeStatus(false, Managed + "IPTNATIVE_MACHINE_CODE is off"), off.Status);
        Assert.Equal(0, off.Address);
    }

    [Fact]
    public void TheEnvironmentVariableIsRead()
    {
        // The process' own kernels keep what they were loaded with: they must be there before the variable changes.
        _ = MachineCodeStatus.Current;
        string? before = Environment.GetEnvironmentVariable(MachineCodeHost.Variable);
        try
        {
            Environment.SetEnvironmentVariable(MachineCodeHost.Variable, "off");
            Assert.Equal("IPTNATIVE_MACHINE_CODE is off", MachineCodeHost.Ask().Obstacle());
        }
        finally
        {
            Environment.SetEnvironmentVariable(MachineCodeHost.Variable, before);
        }
    }

    [Fact]
    public void ThisProcessUsesTheCodeWhereNothingStandsInTheWay()
    {
        MachineCodeStatus status = MachineCodeStatus.Current;
        if (MachineCodeHost.Ask().Obstacle() is { } obstacle)
            Assert.Equal(new MachineCodeStatus(false, Managed + obstacle), status);
        else if (!status.IsActive)
            Assert.Contains("was denied", status.Detail); // by the system; anything else would be a fault of ours
        else
            Assert.Equal($"AVX512-BF16 machine code, {BF16Table.Code.Length} bytes, self-test passed", status.Detail);
    }

    [Fact]
    public void DeniedMemoryIsAReasonAndNothingStaysMapped()
    {
        var pages = new Pages { DenyExecution = true };
        var kernels = BF16Kernels.Load(Willing(pages), CodeTable.Frozen());
        Assert.Equal(Managed + $"making {BF16Table.Code.Length} bytes executable was denied: Permission denied (errno 13)", kernels.Status.Detail);
        Assert.Equal((1, 1), (pages.Mapped, pages.Unmapped));
        pages = new Pages { DenyMapping = true };
        kernels = BF16Kernels.Load(Willing(pages), CodeTable.Frozen());
        Assert.Equal(Managed + $"mapping {BF16Table.Code.Length} bytes failed: Cannot allocate memory (errno 12)", kernels.Status.Detail);
        Assert.Equal((0, 0), (pages.Mapped, pages.Unmapped));
        AssertStillComputes(kernels);
    }

    [Fact]
    public void ADamagedByteIsFoundBeforeAnythingRuns()
    {
        foreach (int at in (int[])[0, 1, 2000, BF16Table.Code.Length - 1])
        {
            var pages = new Pages();
            CodeTable table = CodeTable.Frozen();
            table.Code[at] ^= 4;
            var kernels = BF16Kernels.Load(Willing(pages), table);
            Assert.False(kernels.Status.IsActive);
            Assert.Equal(
                Managed + $"the code table is damaged: found checksum {CodeTable.Fnv1a(table.Code):x16}, expected {BF16Table.Checksum:x16}; reinstall", kernels.Status.Detail);
            Assert.Equal(1, pages.Unmapped);
            AssertStillComputes(kernels);
        }
    }

    [Fact]
    public void CodeThatComputesSomethingElseFailsTheSelfTest()
    {
        SkipWithoutMachineCode();
        // Nothing at all.
        byte[] nothing = [0xC3];
        var pages = new Pages();
        var kernels = BF16Kernels.Load(Willing(pages), new CodeTable(nothing, [0, 0, 0, 0], CodeTable.Fnv1a(nothing)));
        Assert.Equal(Managed + "the self-test failed: tile 12x32, 11x59: C[0, 0] is -77, expected 21", kernels.Status.Detail);
        Assert.Equal(1, pages.Unmapped);
        AssertStillComputes(kernels);
        // The code is whole, but the narrow tiles are taken for the wide ones.
        CodeTable table = CodeTable.Frozen();
        kernels = BF16Kernels.Load(Willing(pages), table with { Entries = [table.Entries[1], table.Entries[0], table.Entries[3], table.Entries[2]] });
        Assert.StartsWith(Managed + "the self-test failed: tile 12x32", kernels.Status.Detail);
        // One instruction too few.
        foreach ((byte[] damaged, int[] entries) in OneInstructionLess())
        {
            kernels = BF16Kernels.Load(Willing(pages), new CodeTable(damaged, entries, CodeTable.Fnv1a(damaged)));
            Assert.StartsWith(Managed + "the self-test failed: tile ", kernels.Status.Detail);
        }
    }

    [Fact]
    public void NoPageIsEverWritableAndExecutable()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "reads /proc/self/maps");
        var pages = new Pages();
        using var loaded = ExecutablePages.Load(pages, CodeTable.Frozen().Code, out string reason);
        Assert.NotNull(loaded);
        Assert.Equal("", reason);
        Assert.Equal("rw-p", pages.BeforeExecution);
        Assert.Equal("r-xp", Protection(loaded.Address));
        Assert.Equal(CodeTable.Frozen().Code, loaded.Content.ToArray());
        if (MachineCodeStatus.Current.IsActive)
            Assert.Equal("r-xp", Protection(BF16Kernels.Shared.Address));
    }

    internal static void SkipWithoutMachineCode() => Assert.SkipUnless(MachineCodeStatus.Current.IsActive, MachineCodeStatus.Current.Detail);

    // Every vdpbf16ps of the smallest tile in turn becomes a nop of the same length.
    private static IEnumerable<(byte[] Code, int[] Entries)> OneInstructionLess()
    {
        CodeTable table = CodeTable.Frozen();
        var decoder = Decoder.Create(64, new ByteArrayCodeReader(table.Code));
        while (decoder.IP < (ulong)table.Code.Length)
        {
            Instruction instruction = decoder.Decode();
            if (instruction.Mnemonic != Mnemonic.Vdpbf16ps || instruction.IP < (ulong)table.Entries[3])
                continue;
            byte[] code = [.. table.Code];
            code.AsSpan((int)instruction.IP, instruction.Length).Fill(0x90);
            yield return (code, table.Entries);
        }
    }

    // Whatever was refused: bf16 products go on, on the managed path, and give its bits.
    private static void AssertStillComputes(BF16Kernels kernels)
    {
        using var device = new CpuDevice(2) { MachineCode = kernels };
        using var plain = new CpuDevice(2);
        using var product = new GemmCase(device, 5, 61, 77, 130, false, true, true, alpha: -1.5f, compute: ComputeType.BF16);
        using var expected = new GemmCase(plain, 5, 61, 77, 130, false, true, true, alpha: -1.5f, compute: ComputeType.BF16);
        Gemm.Run(device, product.Args);
        Gemm.RunManaged(plain, expected.Args);
        product.AssertCorrect("after a refusal");
        Assert.Equal(expected.Result, product.Result);
    }

    private static string Protection(nint address)
    {
        foreach (string line in File.ReadLines("/proc/self/maps"))
        {
            string[] range = line[..line.IndexOf(' ')].Split('-');
            if (address >= Hex(range[0]) && address < Hex(range[1]))
                return line.Split(' ')[1];
        }
        return "unmapped";
    }

    private static nint Hex(string digits) => (nint)ulong.Parse(digits, NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    /// <summary>Linux' pages, watched, and unwilling where asked.</summary>
    private sealed class Pages : IPageSystem
    {
        private readonly LinuxPages _pages = new();

        public bool DenyMapping { get; init; }

        public bool DenyExecution { get; init; }

        public int Mapped { get; private set; }

        public int Unmapped { get; private set; }

        public string BeforeExecution { get; private set; } = "";

        public nint Map(long bytes, out string reason)
        {
            reason = DenyMapping ? "Cannot allocate memory (errno 12)" : "";
            if (DenyMapping)
                return 0;
            Mapped++;
            return _pages.Map(bytes, out reason);
        }

        public bool MakeExecutable(nint address, long bytes, out string reason)
        {
            BeforeExecution = Protection(address);
            reason = DenyExecution ? "Permission denied (errno 13)" : "";
            return !DenyExecution && _pages.MakeExecutable(address, bytes, out reason);
        }

        public void Unmap(nint address, long bytes)
        {
            Unmapped++;
            _pages.Unmap(address, bytes);
        }
    }
}
